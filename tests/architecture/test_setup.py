"""Which device and which Python ``make setup`` chooses, and what it asks pip for."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.architecture.source_files import ROOT

_LISTS_A_GPU = "echo 'GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-0)'"
_LISTS_NONE = "echo 'No devices were found'; exit 6"
_NO_DRIVER = "echo 'NVIDIA-SMI has failed: no communication with the GPU driver'; exit 9"
# A Python 3.11 that notes how it is called, and makes environments of itself.
_PYTHON = """case "$*" in
*version_info*) case "$*" in *print*) echo 3.11 ;; esac; exit ;;
*'-m venv'*) mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
esac
echo "$*" >>calls"""
# The same, that kills the set-up at a step unless it is told to spare it.
_PYTHON_THAT_KILLS = """#!/bin/sh
case "$*" in *'{step}'*) [ -e spare ] || kill -9 "$PPID" ;; esac
""" + _PYTHON.replace("{", "{{").replace("}", "}}")


def _program(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def _run(command: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run with the programs of ``folder / "bin"`` first; of the variables, only those given."""
    environment = {k: v for k, v in os.environ.items() if k not in ("DEVICE", "PYTHON")}
    environment["PATH"] = f"{folder / 'bin'}:{environment['PATH']}"
    environment.update(variables)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def _chosen(folder: Path, existing: str = "", **variables: str) -> str:
    """The device; ``existing`` is the one that ``.venv`` was made for."""
    script = f"source {ROOT / 'tools' / 'setup.sh'}; choose_device '{existing}'"
    run = _run(["bash", "-c", script], folder, **variables)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.mark.parametrize(
    ("answer", "device"), [(_LISTS_A_GPU, "cuda"), (_LISTS_NONE, "cpu"), (_NO_DRIVER, "cpu")]
)
def test_a_listed_gpu_makes_it_cuda(tmp_path: Path, answer: str, device: str):
    _program(tmp_path / "bin", "nvidia-smi", answer)
    assert _chosen(tmp_path) == device


def test_a_choice_by_hand_outweighs_what_exists_and_that_the_machine(tmp_path: Path):
    _program(tmp_path / "bin", "nvidia-smi", _LISTS_A_GPU)
    assert _chosen(tmp_path, existing="cpu") == "cpu"
    assert _chosen(tmp_path, existing="cuda", DEVICE="cpu") == "cpu"
    assert _chosen(tmp_path, existing="cpu", DEVICE="cuda") == "cuda"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What set-up reads, and a machine without a GPU whose Python installs nothing."""
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    (tmp_path / "tools").mkdir()
    for name in ("pyproject.toml", "tools/setup.sh"):
        shutil.copy(ROOT / name, tmp_path / name)
    _program(tmp_path / "bin", "nvidia-smi", _LISTS_NONE)
    _program(tmp_path / "bin", "python3.11", _PYTHON)
    return tmp_path


def _set_up(checkout: Path, **variables: str) -> list[str]:
    """How Python was called, other than to ask for its version."""
    (checkout / "calls").unlink(missing_ok=True)
    run = _run([str(checkout / "tools" / "setup.sh")], checkout, **variables)
    assert run.returncode == 0, run.stderr
    calls = checkout / "calls"
    return calls.read_text().splitlines() if calls.exists() else []


def _locks(calls: list[str]) -> set[str]:
    return {word for call in calls for word in call.split() if word.startswith("requirements/")}


def _made_anew(calls: list[str]) -> bool:
    return any(call.startswith("-m venv --clear") for call in calls)


def test_packages_come_as_wheels_alone_and_from_one_lock(checkout: Path):
    calls = _set_up(checkout)
    installs = [call for call in calls if " install " in call and "--editable" not in call]
    assert len(installs) == 2
    assert all("--only-binary :all:" in call for call in installs)
    assert _locks(calls) == {"requirements/cpu.txt"}


def test_a_second_set_up_does_nothing_until_a_pin_changes(checkout: Path):
    _set_up(checkout)
    assert _set_up(checkout) == []
    with (checkout / "requirements" / "cpu.txt").open("a") as lock:
        lock.write("# another\n")
    again = _set_up(checkout)
    assert _locks(again) == {"requirements/cpu.txt"}
    assert not _made_anew(again)


def test_another_device_gets_an_environment_of_its_own_which_stays(checkout: Path):
    _set_up(checkout)
    calls = _set_up(checkout, DEVICE="cuda")
    assert _made_anew(calls)
    assert _locks(calls) == {"requirements/cuda.txt"}
    assert _set_up(checkout) == []
    assert _set_up(checkout, DEVICE="cuda") == []


def test_another_python_or_one_that_is_gone_gets_an_environment_of_its_own(checkout: Path):
    _set_up(checkout)
    _program(checkout / "bin", "python3.12", _PYTHON.replace("3.11", "3.12"))
    assert _set_up(checkout, PYTHON="python3.11") == []
    assert _made_anew(_set_up(checkout, PYTHON="python3.12"))
    assert _set_up(checkout) == []
    (checkout / ".venv" / "bin" / "python").unlink()
    assert _made_anew(_set_up(checkout))


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"DEVICE": "gpu"}, "DEVICE must be cpu or cuda, but got 'gpu'"),
        (
            {"PYTHON": "python2.7"},
            "expected Python 3.10, 3.11 or 3.12, but found none as python2.7",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_set_up_is_refused_by_name(
    checkout: Path, variables: dict[str, str], told: str
):
    run = _run([str(checkout / "tools" / "setup.sh")], checkout, **variables)
    assert run.returncode == 1
    assert told in run.stderr
    assert not (checkout / ".venv").exists()


def test_an_environment_that_set_up_did_not_make_is_left_alone(checkout: Path):
    (checkout / ".venv").mkdir()
    run = _run([str(checkout / "tools" / "setup.sh")], checkout)
    assert run.returncode == 1
    assert "move .venv away" in run.stderr
    assert list((checkout / ".venv").iterdir()) == []


@pytest.mark.parametrize("step", ["-m ensurepip", "torch", "--no-deps --requirement", "-W ignore"])
def test_a_set_up_that_was_killed_is_completed_by_the_next(checkout: Path, step: str):
    """Whatever it was at; an environment without pip is made anew."""
    python = _program(checkout / "bin", "python3.11", _PYTHON)
    python.write_text(_PYTHON_THAT_KILLS.format(step=step))
    killed = _run([str(checkout / "tools" / "setup.sh")], checkout)
    assert killed.returncode == -9
    assert (checkout / ".venv").exists()
    (checkout / "spare").touch()
    calls = _set_up(checkout)
    assert _made_anew(calls) == (step == "-m ensurepip")
    assert any("--editable ." in call for call in calls)
    assert _set_up(checkout) == []


def test_a_folder_that_was_moved_gets_an_environment_of_its_own(checkout: Path, tmp_path: Path):
    """The scripts of the old one name the old folder; another way to the same folder is no move."""
    _set_up(checkout)
    (tmp_path / "a way to it").symlink_to(checkout)
    assert _set_up(tmp_path / "a way to it") == []
    moved = shutil.copytree(checkout, tmp_path / "moved folder", symlinks=True)
    assert _made_anew(_set_up(moved))
    assert _set_up(moved) == []


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_what_stands_in_the_place_of_an_environment_is_named(checkout: Path, kind: str):
    place = checkout / ".venv"
    place.touch() if kind == "file" else place.symlink_to(checkout / "gone")
    run = _run([str(checkout / "tools" / "setup.sh")], checkout)
    assert run.returncode == 1
    assert "move .venv away" in run.stderr

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
# A Python 3.11 that notes how it is called, makes environments of itself, and kills the set-up at
# the step named in the file "kill".
_PYTHON = """[ -e kill ] && case "$*" in *"$(cat kill)"*) kill -9 "$PPID" ;; esac
case "$*" in
*version_info*) case "$*" in *print*) echo 3.11 ;; esac; exit ;;
*'-m venv'*) mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
esac
echo "$*" >>calls"""


def _program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def _run(command: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run with the programs of ``folder / "bin"`` first, and these DEVICE and PYTHON alone."""
    environment = {k: v for k, v in os.environ.items() if k not in ("DEVICE", "PYTHON")}
    environment |= {"PATH": f"{folder / 'bin'}:{environment['PATH']}", **variables}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("nvidia_smi", "existing", "by_hand", "device"),
    [
        (_LISTS_A_GPU, "", {}, "cuda"),
        (_LISTS_NONE, "", {}, "cpu"),
        (_NO_DRIVER, "", {}, "cpu"),
        (_LISTS_A_GPU, "cpu", {}, "cpu"),
        (_LISTS_A_GPU, "cuda", {"DEVICE": "cpu"}, "cpu"),
        (_LISTS_A_GPU, "cpu", {"DEVICE": "cuda"}, "cuda"),
    ],
)
def test_a_choice_by_hand_outweighs_what_exists_and_that_a_listed_gpu(
    tmp_path: Path, nvidia_smi: str, existing: str, by_hand: dict[str, str], device: str
) -> None:
    _program(tmp_path / "bin", "nvidia-smi", nvidia_smi)
    script = f"source {ROOT / 'tools' / 'setup.sh'}; choose_device '{existing}'"
    assert _run(["bash", "-c", script], tmp_path, **by_hand).stdout.strip() == device


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


def _refused(checkout: Path, **variables: str) -> str:
    """What a set-up that fails says."""
    run = _run([str(checkout / "tools" / "setup.sh")], checkout, **variables)
    assert run.returncode == 1
    return run.stderr


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


def test_packages_come_as_wheels_from_one_lock_and_once_until_a_pin_changes(checkout: Path) -> None:
    calls = _set_up(checkout)
    installs = [call for call in calls if " install " in call and "--editable" not in call]
    assert len(installs) == 2
    assert all("--only-binary :all:" in call for call in installs)
    assert _locks(calls) == {"requirements/cpu.txt"}
    assert _set_up(checkout) == []
    with (checkout / "requirements" / "cpu.txt").open("a") as lock:
        lock.write("# another\n")
    again = _set_up(checkout)
    assert _locks(again) == {"requirements/cpu.txt"}
    assert not _made_anew(again)


def test_another_device_or_python_gets_a_new_environment_which_stays(checkout: Path) -> None:
    _set_up(checkout)
    calls = _set_up(checkout, DEVICE="cuda")
    assert _made_anew(calls)
    assert _locks(calls) == {"requirements/cuda.txt"}
    assert _set_up(checkout) == _set_up(checkout, DEVICE="cuda") == []
    _program(checkout / "bin", "python3.12", _PYTHON.replace("3.11", "3.12"))
    assert _set_up(checkout, PYTHON="python3.11") == []
    assert _made_anew(_set_up(checkout, PYTHON="python3.12"))
    assert _set_up(checkout) == []
    (checkout / ".venv" / "bin" / "python").unlink()
    assert _made_anew(_set_up(checkout))


def test_a_moved_folder_gets_a_new_environment(checkout: Path, tmp_path: Path) -> None:
    """Scripts of the old one name the old folder; a link to the same folder is no move."""
    _set_up(checkout)
    (tmp_path / "a link").symlink_to(checkout)
    assert _set_up(tmp_path / "a link") == []
    moved = shutil.copytree(checkout, tmp_path / "moved folder", symlinks=True)
    assert _made_anew(_set_up(moved))
    assert _set_up(moved) == []


@pytest.mark.parametrize("step", ["-m ensurepip", "torch", "--no-deps --requirement", "-W ignore"])
def test_a_set_up_that_was_killed_is_completed_by_the_next(checkout: Path, step: str) -> None:
    """An environment without pip is made anew."""
    (checkout / "kill").write_text(step)
    killed = _run([str(checkout / "tools" / "setup.sh")], checkout)
    assert killed.returncode == -9
    assert (checkout / ".venv").exists()
    (checkout / "kill").unlink()
    calls = _set_up(checkout)
    assert _made_anew(calls) == (step == "-m ensurepip")
    assert any("--editable ." in call for call in calls)
    assert _set_up(checkout) == []


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_an_environment_that_set_up_did_not_make_is_left_alone(checkout: Path, kind: str) -> None:
    place = checkout / ".venv"
    make = {"folder": place.mkdir, "file": place.touch}
    make.get(kind, lambda: place.symlink_to(checkout / "gone"))()
    assert "move .venv away" in _refused(checkout)
    assert not place.is_dir() or not list(place.iterdir())


def test_an_unknown_device_or_python_is_refused(checkout: Path) -> None:
    assert "DEVICE must be cpu or cuda, but got 'gpu'" in _refused(checkout, DEVICE="gpu")
    assert "expected Python 3.10, 3.11 or 3.12" in _refused(checkout, PYTHON="python2.7")
    assert not (checkout / ".venv").exists()

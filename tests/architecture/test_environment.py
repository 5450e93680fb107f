"""The environment the tests run in is a locked one, and the locks are those of pyproject.toml."""

from __future__ import annotations

import importlib.metadata
import re
import sysconfig

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.source_files import ROOT

_LOCKS = {
    "cpu": ("cpu", "visualization", "test"),
    "cuda": ("cuda", "visualization", "test"),
    "lint": ("lint",),
}
_NOT_PINNED = {"pip", "ebm3d"}
# A CUDA build of torch brings its libraries along, pinned by torch itself.
_OF_CUDA_TORCH = re.compile(r"nvidia-|cuda-|triton")

locks = pytest.mark.parametrize("lock", _LOCKS)
pythons = pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])


def _lines(lock: str) -> list[str]:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    return [line for line in text.splitlines() if not line.startswith("#")]


def _pins(lock: str, python: str | None = None) -> dict[str, str]:
    """Version by name, on this machine or on Linux with another Python."""
    other = {"python_version": python, "python_full_version": f"{python}.0"} if python else None
    requirements = [Requirement(line) for line in _lines(lock)]
    return {
        canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate(other)
    }


def _direct(*names: str) -> list[Requirement]:
    """What pyproject.toml demands itself, in these extras and groups."""
    tomllib = pytest.importorskip("tomllib", reason="new in Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = {**project["project"]["optional-dependencies"], **project["dependency-groups"]}
    found = [] if names == ("lint",) else list(map(Requirement, project["project"]["dependencies"]))
    for requirement in (Requirement(text) for name in names for text in lists[name]):
        own = requirement.name == "ebm3d"
        found += _direct(*requirement.extras) if own else [requirement]
    return found


def _installed() -> dict[str, str]:
    """Versions without the local part: ``2.13.0`` of ``2.13.0+cpu``.

    Only of the environment itself: setuptools puts copies of its own on the path once imported.
    """
    folder = sysconfig.get_paths()["purelib"]
    return {
        canonicalize_name(distribution.metadata["Name"]): distribution.version.split("+")[0]
        for distribution in importlib.metadata.distributions(path=[folder])
    }


def test_every_locked_package_is_installed_in_its_version():
    installed = _installed()
    pins = _pins("cuda" if "spconv-cu126" in installed else "cpu")
    wrong = {
        name: f"pinned {pin}, installed {installed.get(name)}"
        for name, pin in pins.items()
        if installed.get(name) != pin
    }
    assert not wrong, f"run make setup: {wrong}"


def test_every_installed_package_is_locked_for_one_device():
    installed = _installed()
    pins = _pins("cuda" if "spconv-cu126" in installed else "cpu").keys() | _pins("lint").keys()
    unknown = {name for name in installed if not _OF_CUDA_TORCH.match(name)} - pins - _NOT_PINNED
    assert not unknown, f"remove .venv and run make setup, or add to pyproject.toml: {unknown}"


@pythons
@locks
def test_every_direct_dependency_is_locked_within_its_bounds(lock: str, python: str):
    pins = _pins(lock, python)
    direct = _direct(*_LOCKS[lock])
    wrong = [
        str(requirement)
        for requirement in direct
        if not requirement.specifier.contains(pins.get(canonicalize_name(requirement.name), "0"))
    ]
    assert direct
    assert not wrong, f"run make lock: {wrong}"


def test_locks_of_both_devices_differ_by_the_sparse_convolution_alone():
    cpu, cuda = set(_lines("cpu")), set(_lines("cuda"))
    assert {line.split("==")[0] for line in cpu - cuda} == {"spconv", "cumm"}
    assert {line.split("==")[0] for line in cuda - cpu} == {"spconv-cu126", "cumm-cu126"}


@pythons
def test_tools_of_development_move_no_other_pin(python: str):
    pins, of_lint = _pins("cpu", python), _pins("lint", python)
    shared = pins.keys() & of_lint.keys()
    assert shared
    assert {name: pins[name] for name in shared} == {name: of_lint[name] for name in shared}


def test_the_host_comes_without_what_another_distribution_may_provide():
    names = {requirement.name for requirement in _direct("mmdet3d")}
    assert "mmdet3d" in names
    assert not [name for name in names if name.startswith(("mmcv", "spconv", "cumm"))]


@locks
def test_lock_files_name_no_machine_and_no_package_host(lock: str):
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    assert "uv pip compile" in text
    assert not re.search(r"://| @ |(^|[\s='\"])[/~]", text, re.MULTILINE)

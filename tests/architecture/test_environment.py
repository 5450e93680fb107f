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
# A CUDA build of torch brings its libraries along, pinned by torch itself.
_NOT_PINNED = re.compile(r"pip$|ebm3d$|nvidia-|cuda-|triton")

pythons = pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])


def _lines(lock: str) -> list[str]:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    return [line for line in text.splitlines() if not line.startswith("#")]


def _pins(lock: str, python: str | None = None) -> dict[str, str]:
    """Version by name, on this machine or on Linux with another Python."""
    other = {"python_version": python, "python_full_version": f"{python}.0"} if python else None
    return {
        canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
        for requirement in map(Requirement, _lines(lock))
        if requirement.marker is None or requirement.marker.evaluate(other)
    }


def _direct(*names: str) -> list[Requirement]:
    """What pyproject.toml itself demands in these extras and groups."""
    tomllib = pytest.importorskip("tomllib", reason="new in Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = {**project["project"]["optional-dependencies"], **project["dependency-groups"]}
    direct = [] if names == ("lint",) else [*map(Requirement, project["project"]["dependencies"])]
    for requirement in (Requirement(text) for name in names for text in lists[name]):
        is_extra = requirement.name == "ebm3d"
        direct += _direct(*requirement.extras) if is_extra else [requirement]
    return direct


def test_the_installed_packages_are_those_of_one_lock_in_their_versions() -> None:
    """By the environment itself: setuptools puts copies of its parts on the path once imported.

    Versions without the local part: ``2.13.0`` of ``2.13.0+cpu``.
    """
    folder = sysconfig.get_paths()["purelib"]
    installed = {
        canonicalize_name(distribution.metadata["Name"]): distribution.version.split("+")[0]
        for distribution in importlib.metadata.distributions(path=[folder])
    }
    pins = _pins("cuda" if "spconv-cu126" in installed else "cpu")
    wrong = {n: (pin, installed.get(n)) for n, pin in pins.items() if installed.get(n) != pin}
    assert not wrong, f"run make setup: (pinned, installed) {wrong}"
    known = pins.keys() | _pins("lint").keys()
    unknown = {name for name in installed if not _NOT_PINNED.match(name)} - known
    assert not unknown, f"remove .venv and run make setup, or add to pyproject.toml: {unknown}"


@pythons
@pytest.mark.parametrize("lock", _LOCKS)
def test_every_direct_dependency_is_locked_within_its_bounds(lock: str, python: str) -> None:
    pins, direct = _pins(lock, python), _direct(*_LOCKS[lock])
    wrong = [
        str(requirement)
        for requirement in direct
        if not requirement.specifier.contains(pins.get(canonicalize_name(requirement.name), "0"))
    ]
    assert direct
    assert not wrong, f"run make lock: {wrong}"
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    assert "uv pip compile" in text
    assert not re.search(r"://| @ |(^|[\s='\"])[/~]", text, re.MULTILINE), "a machine or an index"


@pythons
def test_locks_differ_by_the_sparse_convolution_alone(python: str) -> None:
    """Of both devices; tools of development move no pin."""
    cpu, cuda = set(_lines("cpu")), set(_lines("cuda"))
    assert {line.split("==")[0] for line in cpu - cuda} == {"spconv", "cumm"}
    assert {line.split("==")[0] for line in cuda - cpu} == {"spconv-cu126", "cumm-cu126"}
    pins, of_lint = _pins("cpu", python), _pins("lint", python)
    shared = pins.keys() & of_lint.keys()
    assert shared
    assert all(pins[name] == of_lint[name] for name in shared)


def test_the_host_comes_without_what_another_distribution_may_provide() -> None:
    names = {requirement.name for requirement in _direct("mmdet3d")}
    assert "mmdet3d" in names
    assert not [name for name in names if name.startswith(("mmcv", "spconv", "cumm"))]

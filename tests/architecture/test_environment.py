"""The environment the tests run in is the one that is pinned."""

from __future__ import annotations

import importlib.metadata
import re
import sysconfig

from tests.architecture.source_files import ROOT

_NOT_PINNED = {"pip", "ebm3d"}


def _normalized(name: str) -> str:
    """The name of a distribution as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _pins() -> dict[str, str]:
    lines = [
        line
        for path in sorted((ROOT / "requirements").glob("*.txt"))
        for line in path.read_text().splitlines()
        if line and not line.startswith("#")
    ]
    return {_normalized(line.split("==")[0]): line.split("==")[1] for line in lines}


def _installed() -> dict[str, str]:
    """Versions without the local part: ``2.13.0`` of ``2.13.0+cpu``.

    Only of the environment itself: setuptools puts copies of its own on the path once imported.
    """
    folder = sysconfig.get_paths()["purelib"]
    return {
        _normalized(distribution.metadata["Name"]): distribution.version.split("+")[0]
        for distribution in importlib.metadata.distributions(path=[folder])
    }


def test_every_installed_package_has_its_pinned_version():
    pins, installed = _pins(), _installed()
    wrong = {
        name: f"pinned {pin}, installed {installed.get(name)}"
        for name, pin in pins.items()
        if installed.get(name) != pin
    }
    assert not wrong, f"run make setup: {wrong}"


def test_every_installed_package_is_pinned():
    # A CUDA build of torch brings its libraries along, pinned by torch itself.
    cuda = re.compile(r"nvidia-|cuda-|triton")
    unknown = {name for name in _installed() if not cuda.match(name)} - set(_pins()) - _NOT_PINNED
    assert not unknown, f"add to requirements/lock.txt: {unknown}"


def test_lock_file_names_no_machine_and_no_package_host():
    text = "".join(path.read_text() for path in (ROOT / "requirements").glob("*.txt"))
    assert "://" not in text
    assert " @ " not in text

"""The public interface: a name leaves or enters it on purpose, with a line in the changelog."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import import_module

import pytest

import ebm3d
from tests.architecture.source_files import PACKAGE

_SURFACE = {
    "BEVGridPool",
    "BoxDistribution",
    "BoxEnergy",
    "BoxNoise",
    "BoxRegression",
    "EnergyNetwork",
    "GradientAscent",
    "PointBoxPool",
    "QuasiNewtonAscent",
    "RefinementResult",
    "Scenes",
    "__version__",
    "config_path",
    "evaluate_kitti",
    "iou_3d",
    "iou_bev",
    "laplace_approximation",
    "nce_loss",
    "prepare_kitti",
    "read_calibration",
    "read_labels",
    "report_calibration",
    "sample_posterior",
    "simulate_frame",
    "wrap_to_pi",
    "write_dataset",
    "write_labels",
}
_ROOMS = sorted(p.parent.name for p in PACKAGE.glob("*/__init__.py") if p.parent.name != "adapters")


def test_the_public_names_are_these():
    assert set(ebm3d.__all__) == _SURFACE


@pytest.mark.parametrize("name", sorted(_SURFACE - {"__version__"}))
def test_a_public_name_is_documented_and_callable(name: str):
    thing = getattr(ebm3d, name)
    assert callable(thing)
    assert (inspect.getdoc(thing) or "").strip()


def test_a_type_checker_sees_the_names_that_are_imported_late():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    seen = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == ebm3d._HOMES


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ebm3d.no_such_name


@pytest.mark.parametrize("room", _ROOMS)
def test_a_room_lists_what_it_offers(room: str):
    module = import_module(f"ebm3d.{room}")
    listed = list(module.__all__)
    assert listed == sorted(set(listed), key=listed.index)
    assert all(hasattr(module, name) for name in listed)


def test_importing_the_package_costs_neither_torch_nor_the_host():
    code = "import sys, ebm3d; print({'torch', 'numba', 'mmengine', 'mmdet3d'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_the_version_is_the_one_of_the_build_file():
    text = (PACKAGE.parents[1] / "pyproject.toml").read_text()
    assert f'version = "{ebm3d.__version__}"' in text

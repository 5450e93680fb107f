"""The public interface: a name leaves or enters it on purpose, with a line in the changelog."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import import_module

import pytest

import ebm3d
from tests.architecture.source_files import PACKAGE, ROOT

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
_PACKAGES = sorted(
    p.parent.name for p in PACKAGE.glob("*/__init__.py") if p.parent.name != "adapters"
)


def test_the_public_names_are_these_callable_and_documented() -> None:
    assert set(ebm3d.__all__) == _SURFACE
    for name in _SURFACE - {"__version__"}:
        assert callable(getattr(ebm3d, name)), name
        assert inspect.getdoc(getattr(ebm3d, name)), name
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ebm3d.no_such_name


def test_a_type_checker_sees_the_names_that_are_imported_late() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    blocks = [block for block in tree.body if isinstance(block, ast.If)]
    imports = [node for b in blocks for node in b.body if isinstance(node, ast.ImportFrom)]
    assert {alias.name: node.module for node in imports for alias in node.names} == ebm3d._HOMES


@pytest.mark.parametrize("package", _PACKAGES)
def test_a_package_has_what_it_lists(package: str) -> None:
    module = import_module(f"ebm3d.{package}")
    assert len(module.__all__) == len(set(module.__all__))
    assert all(hasattr(module, name) for name in module.__all__)


def test_importing_the_package_costs_neither_torch_nor_the_host() -> None:
    code = "import sys, ebm3d; print({'torch', 'numba', 'mmengine', 'mmdet3d'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_the_version_is_the_one_of_the_build_file() -> None:
    assert f'version = "{ebm3d.__version__}"' in (ROOT / "pyproject.toml").read_text()

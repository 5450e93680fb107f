"""How ``mmcv._ext`` is found: after a compiled one, in any order of imports, at no cost."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ebm3d.adapters.operators import OPERATORS, OperatorsLoader, missing_operator
from tests.architecture.source_files import ROOT

PLUGIN = ROOT / "plugin"
# What a .pth file in site-packages does, for a folder: its lines run, and it is on the path.
START = f"import site; site.addsitedir({str(PLUGIN)!r})\n"
SHOW = "import sys; print(type(sys.modules['mmcv._ext'].__spec__.loader).__name__)"


def run(code: str, *options: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Python without PYTHONPATH, in the folder ``path``."""
    command = [sys.executable, "-W", "ignore", *options, "-c", code]
    return subprocess.run(command, cwd=path, env={}, capture_output=True, text=True, check=False)


@pytest.fixture
def mmcv(tmp_path: Path) -> Path:
    """A folder with a package ``mmcv`` without an extension."""
    (tmp_path / "mmcv").mkdir()
    (tmp_path / "mmcv" / "__init__.py").write_text("")
    return tmp_path


def is_compiled() -> bool:
    """Whether this environment has a compiled mmcv, which the operators leave alone."""
    spec = importlib.util.find_spec("mmcv._ext")
    return spec is not None and not isinstance(spec.loader, OperatorsLoader)


@pytest.mark.mmdet3d
def test_every_operator_is_one_that_mmcv_asks_for():
    """By the names that ``load_ext`` asserts, in all files of mmcv.ops."""
    folder = importlib.util.find_spec("mmcv").submodule_search_locations[0]
    names = set()
    for file in Path(folder, "ops").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "load_ext":
                names |= set(ast.literal_eval(node.args[1]))
    assert set(OPERATORS) < names


def test_a_missing_operator_says_which_and_the_remedy():
    with pytest.raises(RuntimeError, match=r"mmcv\._ext\.roi_align_forward .*mmcv==2\.1\.0"):
        missing_operator("roi_align_forward")(torch.ones(1), offset=2)
    with pytest.raises(AttributeError, match="__path__"):
        missing_operator("__path__")


def test_a_compiled_extension_is_found_first(mmcv):
    (mmcv / "mmcv" / "_ext.py").write_text("compiled = True")
    result = run(START + "import mmcv._ext; print(mmcv._ext.compiled)", path=mmcv)
    assert result.stdout.split() == ["True"], result.stderr


def test_without_one_the_extension_is_made_of_the_operators(mmcv):
    code = "import pkgutil, mmcv; print(bool(pkgutil.find_loader('mmcv._ext')))\n"
    code += f"import mmcv._ext; {SHOW}; print(mmcv._ext.nms_rotated.__module__)"
    result = run(START + code, path=mmcv)
    expected = ["True", "OperatorsLoader", "ebm3d.adapters.operators.nms"]
    assert result.stdout.split() == expected, result.stderr


def test_the_start_of_an_interpreter_imports_one_module_and_no_mmcv():
    code = "import sys, site; before = set(sys.modules)\n"
    code += START + "print(sorted(set(sys.modules) - before))"
    result = run(code, "-S")
    assert result.stdout.strip() == "['_ebm3d_operators']", result.stderr


def test_an_install_whose_checkout_is_gone_is_silent(mmcv):
    """The .pth file alone, and then the module without the package."""
    (mmcv / "left.pth").write_text((PLUGIN / "ebm3d_operators.pth").read_text())
    code = "import site; site.addsitedir('.')\nimport mmcv\ntry:\n    import mmcv._ext\n"
    code += "except ModuleNotFoundError as error:\n    print(error.name)"
    for _ in range(2):
        result = run(code, "-I", "-S", path=mmcv)
        assert (result.stdout.split(), result.stderr) == (["mmcv._ext"], "")
        (mmcv / "_ebm3d_operators.py").write_text((PLUGIN / "_ebm3d_operators.py").read_text())


@pytest.mark.mmdet3d
@pytest.mark.parametrize(
    "first",
    [
        f"{START}import mmdet3d.apis",  # a user's script
        f"{START}from mmdet3d.utils import replace_ceph_backend\nimport ebm3d.register",  # train.py
        f"import sys; sys.path.insert(0, {str(PLUGIN)!r})\nimport ebm3d.adapters",  # PYTHONPATH
    ],
    ids=["host first", "register second", "python path"],
)
def test_any_import_may_come_first(first):
    result = run(f"{first}\nimport mmcv.ops; {SHOW}")
    loader = "ExtensionFileLoader" if is_compiled() else "OperatorsLoader"
    assert result.stdout.split()[-1:] == [loader], result.stderr[-2000:]

"""Rules of the source that no linter knows."""

from __future__ import annotations

import ast
import re
import sys

import pytest

from tests.architecture.source_files import (
    functions,
    package_files,
    short,
    tracked_files,
    tracked_text_files,
)

_CORE_LIBRARIES = {"ebm3d", "torch", "numpy", "numba", "scipy", "rich"}
_MAX_FILE_LINES = 400
_MAX_FUNCTION_LINES = 80
_MAX_KERNEL_LINES = 100  # a call inside a numba kernel can cost more than it clears up
_MACHINE_PATH = re.compile(r"(?<![\w.\-}*)/])/(?:work|root|home|Users|mnt|opt)/\w")
_UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX|NotImplementedError)\b")


def _imported_roots(nodes: list[ast.stmt]) -> set[str]:
    """Top-level packages imported by module-level statements, ``if TYPE_CHECKING`` included."""
    roots: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            roots.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.If | ast.Try):
            roots |= _imported_roots(node.body)
    return roots


def test_the_core_imports_torch_numpy_numba_scipy_rich_and_nothing_else_on_import():
    foreign = {
        short(path): sorted(extra)
        for path in package_files(core_only=True)
        if (
            extra := _imported_roots(ast.parse(path.read_text()).body)
            - _CORE_LIBRARIES
            - set(sys.stdlib_module_names)
        )
    }
    assert not foreign, f"import plotting and host libraries inside functions: {foreign}"


def test_the_core_does_not_import_the_host_inside_functions_either():
    host = {"mmcv", "mmdet", "mmdet3d", "mmengine", "spconv"}
    imports = {
        short(path): _imported_roots([n for n in ast.walk(tree) if isinstance(n, ast.stmt)])
        for path in package_files(core_only=True)
        for tree in [ast.parse(path.read_text())]
    }
    assert not {name: roots & host for name, roots in imports.items() if roots & host}


def test_the_package_never_prints():
    printing = [
        f"{short(path)}:{node.lineno}"
        for path in package_files()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"print", "pprint", "breakpoint"}
    ]
    assert not printing, f"use a logger: {printing}"


def test_no_default_argument_is_mutable():
    mutable = [
        f"{short(path)}:{default.lineno}"
        for path in package_files()
        for function in functions(ast.parse(path.read_text()))
        for default in [*function.args.defaults, *function.args.kw_defaults]
        if isinstance(default, ast.List | ast.Dict | ast.Set)
    ]
    assert not mutable, f"use None or a tuple: {mutable}"


def test_nothing_is_left_unfinished():
    marked = [
        f"{short(path)}:{number}"
        for path in package_files()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if _UNFINISHED.search(line)
    ]
    assert not marked


def test_no_module_is_longer_than_a_reader_can_hold():
    lengths = {short(path): len(path.read_text().splitlines()) for path in package_files()}
    too_long = {name: lines for name, lines in lengths.items() if lines > _MAX_FILE_LINES}
    assert not too_long, f"split these modules (at most {_MAX_FILE_LINES} lines): {too_long}"


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def _limit(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How long a function may be."""
    is_kernel = any("njit" in ast.unparse(decorator) for decorator in function.decorator_list)
    return _MAX_KERNEL_LINES if is_kernel else _MAX_FUNCTION_LINES


def test_no_function_is_longer_than_a_screen():
    too_long = {
        f"{short(path)}::{function.name}": _length(function)
        for path in package_files()
        for function in functions(ast.parse(path.read_text()))
        if _length(function) > _limit(function)
    }
    assert not too_long, f"split these functions (at most {_MAX_FUNCTION_LINES} lines): {too_long}"


def test_no_module_is_a_drawer_for_everything():
    drawers = {"utils", "util", "misc", "helpers", "common"}
    assert not [short(p) for p in package_files() if drawers & {p.stem, *p.parent.parts[-1:]}]


def test_no_file_holds_a_path_of_one_machine():
    found = [
        f"{short(path)}:{number}: {line.strip()[:80]}"
        for path in tracked_text_files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if _MACHINE_PATH.search(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line", ["root='/" + "home/ann/kitti'", "cd /" + "root/x", "(/" + "opt/y)"]
)
def test_a_path_of_one_machine_is_recognized(line: str):
    assert _MACHINE_PATH.search(line)


def test_no_file_under_version_control_is_large():
    # Pictures and pseudo checkpoints are the usual offenders; pre-commit holds the same limit.
    large = {short(p): p.stat().st_size for p in tracked_files() if p.stat().st_size > 500 * 1024}
    assert not large

"""Rules of the source that no linter knows."""

from __future__ import annotations

import ast
import re

import pytest

from tests.architecture.source_files import ROOT, package_files, short, text_files

_MAX_FILE_LINES = 400
_MACHINE_PATH = re.compile(r"(?<![\w.\-}*)/])/(?:work|root|home|Users|mnt|opt)/\w")
_IN_THE_PACKAGE = re.compile(
    r"^\s*(?:print|pprint|breakpoint)\(|\b(?:TODO|FIXME|XXX|NotImplementedError)\b"
)
_DRAWERS = {"utils", "util", "misc", "helpers", "common"}


def test_the_package_never_prints_and_nothing_is_left_unfinished() -> None:
    lines = [
        f"{short(path)}:{number}"
        for path in package_files()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if _IN_THE_PACKAGE.search(line)
    ]
    assert not lines


def test_modules_are_short_and_none_is_a_drawer_for_everything() -> None:
    lengths = {short(path): len(path.read_text().splitlines()) for path in package_files()}
    assert not {name: lines for name, lines in lengths.items() if lines > _MAX_FILE_LINES}
    assert not [short(p) for p in package_files() if _DRAWERS & {p.stem, p.parent.name}]


def test_no_file_holds_a_path_of_one_machine() -> None:
    lines = [
        f"{short(path)}:{number}: {line.strip()[:80]}"
        for path in text_files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if _MACHINE_PATH.search(line)
    ]
    assert not lines, "\n".join(lines)
    for start in ("root='", "cd ", "("):
        assert _MACHINE_PATH.search(start + "/home" + "/ann/kitti")


def _asserts(node: ast.AST) -> bool:
    """Whether a syntax node can fail a test on a machine without a GPU."""
    if isinstance(node, ast.If) and "is_available" in ast.unparse(node.test):
        return False
    if isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant):
        return True
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func).rpartition(".")[2].lstrip("_")
        return name in ("raises", "warns", "fail") or name.startswith(("assert", "check"))
    return any(_asserts(child) for child in ast.iter_child_nodes(node))


def test_no_test_is_empty() -> None:
    empty = [
        f"{short(path)}::{node.name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        if not any(map(_asserts, node.body))
    ]
    assert not empty


@pytest.mark.parametrize(
    ("body", "can_fail"),
    [
        ("pass", False),
        ("assert True", False),
        ("if torch.cuda.is_available():\n    assert f()", False),
        ("for x in y:\n    assert x", True),
        ("with pytest.raises(ValueError):\n    f()", True),
        ("torch.testing.assert_close(f(a), b)", True),
    ],
)
def test_an_empty_test_is_recognized(body: str, can_fail: bool) -> None:
    assert any(map(_asserts, ast.parse(body).body)) == can_fail


def _needs_an_argument(call: ast.AST) -> bool:
    """Whether a syntax node is an ``add_argument`` for something that cannot be left out."""
    if not (isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "add_argument"):
        return False
    settings = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}
    positional = not str(getattr(call.args[0], "value", "-")).startswith("-")
    return bool(
        settings.get("required") or (positional and settings.get("nargs") not in ("?", "*"))
    )


def test_make_bench_runs_what_needs_no_argument_and_names_the_others() -> None:
    makefile = (ROOT / "Makefile").read_text()
    listed = re.search(r"^BENCHMARKS := (.*)$", makefile, re.MULTILINE)
    assert listed is not None
    scripts = {path.name: path for path in (ROOT / "tools" / "benchmarks").glob("[a-z]*.py")}
    run, named = listed[1].split(), re.findall(r"tools/benchmarks/(\w+\.py)", makefile)
    assert sorted(run + named) == sorted(scripts)
    for name in run:
        assert not any(map(_needs_an_argument, ast.walk(ast.parse(scripts[name].read_text()))))

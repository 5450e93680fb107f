"""The tests themselves are tested: none is empty, none passes because there is no GPU."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.architecture.source_files import ROOT, functions, short

_ASSERTING_PREFIXES = ("assert", "_assert", "check", "_check")
_ASSERTING_CALLS = {"raises", "warns", "fail"}


def _call_name(node: ast.Call) -> str:
    """The last name of what is called: ``raises`` of ``pytest.raises(...)``."""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _asserts(node: ast.AST) -> bool:
    """Whether one syntax node can fail a test."""
    if isinstance(node, ast.Assert):
        return not isinstance(node.test, ast.Constant)
    if isinstance(node, ast.Call):
        name = _call_name(node)
        return name in _ASSERTING_CALLS or name.startswith(_ASSERTING_PREFIXES)
    return False


def _is_guarded_by_cuda(node: ast.stmt) -> bool:
    """Whether a statement is ``if torch.cuda.is_available(): ...``."""
    return isinstance(node, ast.If) and "is_available" in ast.unparse(node.test)


def _is_empty(test: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether nothing in a test can fail on a machine without a GPU."""
    statements = [node for node in test.body if not _is_guarded_by_cuda(node)]
    return not any(_asserts(node) for statement in statements for node in ast.walk(statement))


def _tests(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text())
    return [function for function in functions(tree) if function.name.startswith("test_")]


def test_no_test_is_empty():
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    empty = [f"{short(p)}::{test.name}" for p in files for test in _tests(p) if _is_empty(test)]
    assert not empty, f"these tests assert nothing: {empty}"


def test_no_test_hides_another_of_the_same_name():
    hidden = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for scope in ast.walk(ast.parse(path.read_text())):
            if isinstance(scope, ast.Module | ast.ClassDef):
                names = [node.name for node in scope.body if isinstance(node, ast.FunctionDef)]
                hidden += [f"{short(path)}::{n}" for n in set(names) if names.count(n) > 1]
    assert not hidden


@pytest.mark.parametrize(
    "body",
    [
        "pass",
        "assert True",
        "x = 1",
        "if torch.cuda.is_available():\n        assert f()",
    ],
)
def test_an_empty_test_is_recognized(body: str):
    (function,) = functions(ast.parse(f"def test_law():\n    {body}"))
    assert _is_empty(function)


@pytest.mark.parametrize(
    "body",
    [
        "assert f()",
        "for x in y:\n        assert x",
        "with pytest.raises(ValueError):\n        f()",
        "torch.testing.assert_close(a, b)",
    ],
)
def test_a_test_that_can_fail_is_recognized(body: str):
    (function,) = functions(ast.parse(f"def test_law():\n    {body}"))
    assert not _is_empty(function)

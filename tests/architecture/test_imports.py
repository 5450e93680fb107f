"""Who imports whom: the core knows no host, and no import is circular."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter

from tests.architecture.source_files import PACKAGE, package_files, short

_CORE_LIBRARIES = {"ebm3d", "torch", "numpy", "numba", "scipy", "sklearn", "rich"}
_HOST = re.compile(r"(mmcv|mmdet|mmdet3d|mmengine|spconv|ebm3d\.adapters)(\.|$)")


def imported(nodes: list[ast.stmt], everywhere: bool = False) -> Iterator[str]:
    """Dotted names that statements import when they run, or also inside functions."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If | ast.Try) and "TYPE_CHECKING" not in ast.unparse(node):
            yield from imported(node.body, everywhere)
        elif everywhere:
            inner = [child for child in ast.walk(node) if isinstance(child, ast.stmt)]
            yield from imported(inner[1:], everywhere=False)


def test_the_core_imports_few_libraries_when_loaded_and_host_and_adapters_never() -> None:
    known = _CORE_LIBRARIES | set(sys.stdlib_module_names)
    wrong = []
    for path in package_files(core_only=True):
        body = ast.parse(path.read_text()).body
        when_loaded = {name.split(".")[0] for name in imported(body)} - known
        ever = {name for name in imported(body, everywhere=True) if _HOST.match(name)}
        wrong += [(short(path), name) for name in when_loaded | ever]
    assert not wrong


def test_no_import_is_circular() -> None:
    """Between modules; that of a package stands for its ``__init__``."""
    modules = {
        ".".join(("ebm3d", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): path
        for path in package_files()
    }
    graph = {}
    for module, path in modules.items():
        names = imported(ast.parse(path.read_text()).body)
        graph[module] = {
            name if name in modules else name.rpartition(".")[0] for name in names
        } & modules.keys() - {module}
    assert list(TopologicalSorter(graph).static_order())  # or CycleError, naming the modules

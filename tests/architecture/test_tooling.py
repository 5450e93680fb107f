"""What the Makefile lists is what there is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.architecture.source_files import ROOT


def _has_required_argument(script: Path) -> bool:
    """Whether a script calls ``add_argument`` for something that cannot be left out."""
    for call in ast.walk(ast.parse(script.read_text())):
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "add_argument":
            given = {k.arg: getattr(k.value, "value", None) for k in call.keywords}
            first = call.args[0]
            positional = isinstance(first, ast.Constant) and not str(first.value).startswith("-")
            if given.get("required") or (positional and given.get("nargs") not in ("?", "*")):
                return True
    return False


def test_make_bench_runs_what_needs_no_argument_and_names_the_others():
    makefile = (ROOT / "Makefile").read_text()
    listed = re.search(r"^BENCHMARKS := (.*)$", makefile, re.MULTILINE)
    assert listed is not None
    scripts = {path.name: path for path in (ROOT / "tools" / "benchmarks").glob("[a-z]*.py")}
    run, told = listed[1].split(), re.findall(r"tools/benchmarks/(\w+\.py)", makefile)
    assert sorted(run + told) == sorted(scripts)
    assert not [name for name in run if _has_required_argument(scripts[name])]

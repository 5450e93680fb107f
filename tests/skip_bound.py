"""A pytest plugin: the run fails when more tests were skipped than pyproject.toml allows.

Skips are listed by ``-ra``; bounding their number keeps a run that tested nothing from being green.
There are two bounds, because the tests on real data need the folder ``../shared``. A test marked
``gpu`` that finds no CUDA (tests/cuda.py) is listed and not counted: one bound could not hold on
machines with a GPU and without.
"""

from __future__ import annotations

from pathlib import Path

import pytest

NO_CUDA = "needs CUDA"
_SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the two bounds as settings of pyproject.toml."""
    parser.addini("max_skips", "most skips allowed where the real data is present", default="0")
    parser.addini("max_skips_without_shared_data", "most skips allowed without it", default="0")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn a passing run with too many skips into a failing one."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(session.config, "workerinput"):
        return
    name = "max_skips" if _SHARED.is_dir() else "max_skips_without_shared_data"
    bound = int(session.config.getini(name))
    skipped = sum(not _lacks_cuda(report) for report in reporter.stats.get("skipped", []))
    if skipped > bound and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.section(f"too many skips: {skipped}, but {name} = {bound}", red=True)
        reporter.line("Install what is missing, or change the bound in pyproject.toml and say why.")


def _lacks_cuda(report: pytest.TestReport | pytest.CollectReport) -> bool:
    """Whether a test was skipped because it is marked ``gpu`` and there is no CUDA."""
    is_marked = "gpu" in report.keywords
    return is_marked and isinstance(report.longrepr, tuple) and report.longrepr[2].endswith(NO_CUDA)

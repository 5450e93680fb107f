"""The bound on skipped tests, tried on small suites."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import skip_bound

pytest_plugins = ["pytester"]

_SUITE = """
import pytest

@pytest.mark.parametrize("number", range({skipped}))
def test_skipped(number):
    pytest.skip("for a reason")

def test_passed():
    assert 1 + 1 == 2
"""


def _run(pytester: pytest.Pytester, skipped: int, *arguments: str) -> pytest.RunResult:
    pytester.makeini("[pytest]\nmax_skips = 2\nmax_skips_without_shared_data = 2")
    pytester.makeconftest(Path(skip_bound.__file__).read_text())
    pytester.makepyfile(_SUITE.format(skipped=skipped))
    return pytester.runpytest_subprocess("-p", "no:dash", *arguments)


def test_as_many_skips_as_allowed_pass(pytester: pytest.Pytester):
    assert _run(pytester, 2).ret == pytest.ExitCode.OK


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["one process", "two processes"])
def test_one_skip_more_than_allowed_fails_the_run(
    pytester: pytest.Pytester, arguments: tuple[str, ...]
):
    result = _run(pytester, 3, *arguments)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*too many skips: 3, but max_skips*= 2*"])

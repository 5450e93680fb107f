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


_GPU_TESTS = """
import pytest

@pytest.mark.gpu
@pytest.mark.parametrize("number", range(3))
@pytest.mark.skip(reason="{reason}")
def test_on_a_gpu(number):
    raise AssertionError
"""


def _run(
    pytester: pytest.Pytester, skipped: int, *arguments: str, more: str = ""
) -> pytest.RunResult:
    pytester.makeini("[pytest]\nmarkers = gpu\nmax_skips = 2\nmax_skips_without_shared_data = 2")
    pytester.makeconftest(Path(skip_bound.__file__).read_text())
    pytester.makepyfile(_SUITE.format(skipped=skipped) + more)
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


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["one process", "two processes"])
def test_gpu_tests_without_a_gpu_are_listed_but_not_counted(
    pytester: pytest.Pytester, arguments: tuple[str, ...]
):
    more = _GPU_TESTS.format(reason=skip_bound.NO_CUDA)
    result = _run(pytester, 2, "-ra", *arguments, more=more)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines([f"SKIPPED *3* {skip_bound.NO_CUDA}*", "*5 skipped*"])


def test_a_gpu_test_skipped_for_another_reason_counts(pytester: pytest.Pytester):
    result = _run(pytester, 2, more=_GPU_TESTS.format(reason="out of order"))
    assert result.ret == pytest.ExitCode.TESTS_FAILED

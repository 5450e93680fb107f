"""The bound on skipped tests, tried on small suites, and the marker ``gpu``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests import skip_bound

pytest_plugins = ["pytester"]

_SUITE = """
import pytest

@pytest.mark.parametrize("number", range({skipped}))
def test_skipped(number):
    pytest.skip("for a reason")

def test_passed():
    assert 1 + 1 == 2

@pytest.mark.gpu
@pytest.mark.parametrize("number", range(3))
@pytest.mark.skip(reason="{reason}")
def test_on_a_gpu(number):
    raise AssertionError
"""


@pytest.mark.parametrize(
    ("skipped", "reason", "counted", "arguments"),
    [
        (2, skip_bound.NO_CUDA, 2, ()),
        (3, skip_bound.NO_CUDA, 3, ("-n", "2")),
        (2, "out of order", 5, ()),
    ],
)
def test_more_skips_than_allowed_fail_the_run_unless_cuda_is_absent(
    pytester: pytest.Pytester, skipped: int, reason: str, counted: int, arguments: tuple[str, ...]
) -> None:
    pytester.makeini("[pytest]\nmarkers = gpu\nmax_skips = 2\nmax_skips_without_shared_data = 2")
    pytester.makeconftest(Path(skip_bound.__file__).read_text())
    pytester.makepyfile(_SUITE.format(skipped=skipped, reason=reason))
    result = pytester.runpytest_subprocess("-p", "no:dash", "-ra", *arguments)
    result.stdout.fnmatch_lines([f"*{skipped + 3} skipped*"])
    assert (result.ret == pytest.ExitCode.OK) == (counted == 2)
    if counted > 2:
        result.stdout.fnmatch_lines([f"*too many skips: {counted}, but max_skips*= 2*"])


def test_the_user_of_the_fixture_cuda_runs_on_the_gpu(cuda: torch.device) -> None:
    assert torch.ones(2, device=cuda).sum() == 2


def test_the_user_of_the_fixture_device_runs_on_both(device: torch.device) -> None:
    assert torch.ones(2, device=device).sum() == 2


def test_users_of_cuda_are_marked_and_skipped_without_a_gpu(
    request: pytest.FixtureRequest,
) -> None:
    items = [item for item in request.session.items if item.path == request.path]
    marked = {item.name for item in items if item.get_closest_marker("gpu")}
    reasons = {
        item.name: mark.kwargs["reason"] for item in items for mark in item.iter_markers("skip")
    }
    users = {
        "test_the_user_of_the_fixture_cuda_runs_on_the_gpu",
        "test_the_user_of_the_fixture_device_runs_on_both[cuda]",
    }
    assert marked == users & {item.name for item in items}
    skipped = () if torch.cuda.is_available() else marked
    assert reasons == dict.fromkeys(skipped, skip_bound.NO_CUDA)

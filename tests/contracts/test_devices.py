"""The contract of devices: no value read on the host, no device mixed, the same everywhere.

On the ``meta`` device a read of a value (``.item()``, ``bool(...)``, boolean indexing) raises, and
so does a tensor that was left on the CPU: whatever runs there neither makes the host wait on a GPU
nor forgets a device.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import ebm3d.boxes
import ebm3d.codecs
import ebm3d.densities
import ebm3d.energy
import ebm3d.losses
import ebm3d.noise
import ebm3d.refiners
import ebm3d.regressions
import tests.contracts.energies
import tests.contracts.losses
import tests.contracts.representations
import tests.contracts.sampling  # noqa: F401
from ebm3d.boxes.kernels import forced_torch
from tests.contracts.cases import CASES
from tests.contracts.places import DrawnOnTheCPU, Place

_CPU, _META = torch.device("cpu"), torch.device("meta")
_PACKAGES = (
    "boxes",
    "codecs",
    "densities",
    "energy",
    "losses",
    "noise",
    "refiners",
    "regressions",
)
# Names and numbers: nothing is computed on a device.
_NO_COMPUTATION = {
    "codecs.CODEBOOKS",
    "codecs.DECODERS",
    "codecs.SOFT_LABELS",
    "regressions.NUM_RESIDUALS",
}
_NUM_NOT_ON_META = 2

every_case = pytest.mark.parametrize("name", CASES)


def _run(name: str, place: Place) -> dict[str, Tensor]:
    """Results of a case, whose inputs and random numbers are always the same."""
    torch.manual_seed(0)
    with DrawnOnTheCPU():
        return CASES[name].run(place)


def _assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raise unless all results are the same within 1e-9, or 1e-9 of the mean size of a result."""
    assert found.keys() == expected.keys()
    assert expected
    for name, values in expected.items():
        value, there = values.detach().double(), found[name].detach().cpu().double()
        size = max(1.0, float(value.nan_to_num(0, 0, 0).abs().mean())) if value.numel() else 1.0
        torch.testing.assert_close(
            there,
            value,
            rtol=1e-9,
            atol=1e-9 * size,
            equal_nan=True,
            msg=lambda message, name=name: f"{name}: {message}",
        )


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_value_is_read_on_the_host_no_device_mixed_and_the_type_kept(
    name: str, dtype: torch.dtype
):
    case, place = CASES[name], Place(_META, dtype)
    torch.manual_seed(0)
    if case.not_on_meta:
        with pytest.raises((RuntimeError, NotImplementedError), match=r"(?i)meta"):
            case.run(place)
        return
    found = case.run(place)
    assert found
    for key, value in found.items():
        assert value.is_meta, key
        kind = torch.float64 if key.startswith(case.always_float64) else dtype
        assert not value.is_floating_point() or value.dtype == kind, key


@every_case
def test_torch_on_the_cpu_is_the_kernels(name: str):
    expected = _run(name, Place(_CPU))
    with forced_torch():
        found = _run(name, Place(_CPU))
    _assert_same(found, expected)


@every_case
def test_cuda_is_the_cpu(name: str, cuda: torch.device):
    _assert_same(_run(name, Place(cuda)), _run(name, Place(_CPU)))


def test_few_cases_read_a_value_and_say_why():
    reasons = {name: case.not_on_meta for name, case in CASES.items() if case.not_on_meta}
    assert len(reasons) == _NUM_NOT_ON_META, reasons


@pytest.mark.parametrize("package", _PACKAGES)
def test_every_public_name_has_a_case(package: str):
    covered = {name for case in CASES.values() for name in case.covers}
    names = {f"{package}.{name}" for name in getattr(ebm3d, package).__all__}
    assert names - _NO_COMPUTATION - covered == set()

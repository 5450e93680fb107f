from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ebm3d.boxes.codings import AnchorCoding, BoxCoding, LocalCoding
from ebm3d.noise import BoxNoise

_UNITS = (0.4, 0.2, 0.15, 0.12, 0.1, 0.08, 0.3)


def _anchor(reference: Tensor) -> BoxCoding:
    return AnchorCoding(reference)


def _local(reference: Tensor) -> BoxCoding:
    noise_std = torch.tensor(_UNITS, dtype=reference.dtype)
    factors = torch.linspace(0.5, 2, max(len(reference), 1))[: len(reference), None]
    return LocalCoding(reference, noise_std * factors.to(reference))


every_coding = pytest.mark.parametrize("coding_of", [_anchor, _local])
Build = Callable[[Tensor], BoxCoding]


def _numbers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, allow_subnormal=False)


_BOXES = st.tuples(
    *[_numbers(-80, 80)] * 2, _numbers(-5, 5), *[_numbers(0.1, 15)] * 3, _numbers(-math.pi, math.pi)
)
_RESIDUALS = st.tuples(*[_numbers(-2, 2)] * 7)


def _row(values: tuple[float, ...]) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def _wrapped(angle: Tensor) -> Tensor:
    """The distance of angles from a whole number of turns."""
    return torch.atan2(torch.sin(angle), torch.cos(angle)).abs()


def _references(count: int = 6) -> Tensor:
    """Boxes of road users, seeded by the fixture of all tests."""
    low = torch.tensor([2.0, -25, -2.2, 0.5, 0.4, 1.0, -3.1], dtype=torch.float64)
    high = torch.tensor([50.0, 25, -0.8, 5.0, 2.2, 2.4, 3.1], dtype=torch.float64)
    return low + (high - low) * torch.rand(count, 7, dtype=torch.float64)


def _residuals(count: int = 6) -> Tensor:
    return 0.4 * torch.randn(count, 7, dtype=torch.float64)


@every_coding
@given(reference=_BOXES, box=_BOXES)
def test_decoding_what_was_encoded_gives_the_box(
    coding_of: Build, reference: tuple[float, ...], box: tuple[float, ...]
):
    coding, boxes = coding_of(_row(reference)), _row(box)
    back = coding.decode(coding.encode(boxes))
    torch.testing.assert_close(back[:, :6], boxes[:, :6], rtol=1e-9, atol=1e-9)
    assert _wrapped(back[:, 6] - boxes[:, 6]).max() < 1e-9


@every_coding
@given(reference=_BOXES, residual=_RESIDUALS)
def test_encoding_what_was_decoded_gives_the_residuals(
    coding_of: Build, reference: tuple[float, ...], residual: tuple[float, ...]
):
    coding, residuals = coding_of(_row(reference)), _row(residual)
    back = coding.encode(coding.decode(residuals))
    torch.testing.assert_close(back[:, :6], residuals[:, :6], rtol=1e-9, atol=1e-8)
    assert _wrapped((back - residuals)[:, 6] * coding.yaw_unit).max() < 1e-9


@every_coding
@given(reference=_BOXES, residual=_RESIDUALS)
def test_decoded_yaw_lies_in_one_turn(
    coding_of: Build, reference: tuple[float, ...], residual: tuple[float, ...]
):
    yaw = coding_of(_row(reference)).decode(_row(residual))[0, 6].item()
    assert -math.pi - 1e-12 < yaw <= math.pi + 1e-12


@every_coding
def test_reference_itself_has_residual_zero(coding_of: Build):
    references = _references()
    residuals = coding_of(references).encode(references)
    torch.testing.assert_close(residuals, torch.zeros_like(residuals), rtol=0, atol=1e-12)


@every_coding
def test_jacobian_is_that_of_automatic_differentiation(coding_of: Build):
    coding, residuals = coding_of(_references()), _residuals()
    # Rows do not see each other, so that the sum over rows has the rows' derivatives.
    expected = torch.autograd.functional.jacobian(lambda t: coding.decode(t).sum(0), residuals)
    torch.testing.assert_close(coding.jacobian(residuals), expected.permute(1, 0, 2))


@every_coding
def test_log_volume_is_the_log_determinant_of_the_jacobian(coding_of: Build):
    coding, residuals = coding_of(_references()), _residuals()
    expected = torch.linalg.slogdet(coding.jacobian(residuals)).logabsdet
    torch.testing.assert_close(coding.log_volume(coding.decode(residuals)), expected)


@every_coding
def test_yaw_unit_is_the_derivative_of_the_yaw(coding_of: Build):
    coding = coding_of(_references())
    torch.testing.assert_close(coding.yaw_unit, coding.jacobian(_residuals())[:, 6, 6])


@every_coding
def test_encoding_and_decoding_differentiate(coding_of: Build):
    coding, residuals = coding_of(_references(2)), _residuals(2).requires_grad_()
    boxes = coding.decode(residuals).detach().requires_grad_()
    assert torch.autograd.gradcheck(coding.decode, residuals)
    assert torch.autograd.gradcheck(coding.encode, boxes)


@every_coding
def test_turned_coding_decodes_the_same_boxes_turned(coding_of: Build):
    references, residuals = _references(), _residuals()
    residuals[:, :2] = 0  # along and across turn with the reference
    yaw = torch.linspace(-3, 3, 6, dtype=torch.float64)
    before = coding_of(references).decode(residuals)
    after = coding_of(references).turned(yaw).decode(residuals)
    assert torch.equal(after[:, :6], before[:, :6])
    assert _wrapped(after[:, 6] - before[:, 6] - yaw).max() < 1e-12


@every_coding
def test_samples_are_those_of_a_loop(coding_of: Build):
    coding = coding_of(_references())
    residuals = 0.3 * torch.randn(6, 4, 7, dtype=torch.float64)
    boxes = coding.decode(residuals)
    for function, values in (
        (coding.decode, residuals),
        (coding.encode, boxes),
        (coding.log_volume, boxes),
    ):
        expected = torch.stack([function(one) for one in values.unbind(1)], dim=1)
        torch.testing.assert_close(function(values), expected)


@every_coding
def test_no_boxes_have_no_residuals(coding_of: Build):
    coding, none = coding_of(_references(0)), torch.zeros(0, 7, dtype=torch.float64)
    assert coding.encode(none).shape == coding.decode(none).shape == (0, 7)
    assert coding.jacobian(none).shape == (0, 7, 7)
    assert coding.log_volume(none).shape == coding.yaw_unit.shape == (0,)


@every_coding
def test_everything_stays_in_float32(coding_of: Build):
    coding, residuals = coding_of(_references().float()), _residuals().float()
    boxes = coding.decode(residuals)
    values = (boxes, coding.encode(boxes), coding.jacobian(residuals), coding.log_volume(boxes))
    assert {value.dtype for value in values} == {torch.float32}


def test_residuals_from_an_anchor_by_hand():
    anchor = torch.tensor([[10.0, 5.0, -2.0, 4.0, 3.0, 1.5, 0.5]], dtype=torch.float64)
    box = torch.tensor([[12.0, 4.0, -1.5, 8.0, 1.5, 2.0, -0.25]], dtype=torch.float64)
    # Diagonal 5 m; centers of height at -0.5 m and -1.25 m, in units of 1.5 m.
    expected = [0.4, -0.2, 0.5, math.log(2), -math.log(2), math.log(4 / 3), -0.75]
    encoded = AnchorCoding(anchor).encode(box)
    torch.testing.assert_close(encoded, torch.tensor([expected], dtype=torch.float64))


def test_residuals_along_a_turned_box_by_hand():
    reference = torch.tensor([[10.0, 5.0, -2.0, 4.0, 2.0, 1.5, math.pi / 2]], dtype=torch.float64)
    box = torch.tensor([[10.5, 7.0, -1.7, 8.0, 2.0, 1.5, -math.pi + 0.3]], dtype=torch.float64)
    noise_std = torch.tensor([[1.0, 0.5, 0.1, 2.0, 1.0, 1.0, 0.1]], dtype=torch.float64)
    # Two meters ahead, half a meter to the right; a quarter turn and 0.3 further to the left.
    expected = [2.0, -1.0, 3.0, math.log(2) / 2, 0.0, 0.0, 10 * (math.pi / 2 + 0.3)]
    encoded = LocalCoding(reference, noise_std).encode(box)
    torch.testing.assert_close(encoded, torch.tensor([expected], dtype=torch.float64))


def test_local_residuals_are_the_coordinates_of_the_noise(generator: torch.Generator):
    references = _references()
    noise = BoxNoise(_UNITS, (1.0,))
    labels = torch.zeros(6, dtype=torch.int64)
    drawn = noise.sample(references, labels, 5, generator)
    coding = LocalCoding(references, torch.tensor(_UNITS, dtype=torch.float64).expand(6, 7))
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(coding.encode(drawn.boxes)).sum(-1)
    torch.testing.assert_close(normal - coding.log_volume(drawn.boxes), drawn.log_q)


@pytest.mark.mmdet3d
def test_anchor_coding_is_the_coder_of_the_host():
    coders = pytest.importorskip("mmdet3d.models.task_modules.coders")
    anchors, boxes, residuals = _references(), _references(), _residuals()
    coding, host = AnchorCoding(anchors), coders.DeltaXYZWLHRBBoxCoder()
    torch.testing.assert_close(coding.encode(boxes), host.encode(anchors, boxes))
    expected = host.decode(anchors, residuals)
    decoded = coding.decode(residuals)
    torch.testing.assert_close(decoded[:, :6], expected[:, :6])
    assert _wrapped(decoded[:, 6] - expected[:, 6]).max() < 1e-12


def test_references_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"reference must have shape \(N, 7\)"):
        AnchorCoding(torch.zeros(3, 6))


def test_units_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"units must have shape \(3, 7\), as reference"):
        LocalCoding(torch.ones(3, 7), torch.ones(7))


@every_coding
def test_boxes_and_residuals_of_another_shape_are_refused(coding_of: Build):
    coding = coding_of(_references(3))
    with pytest.raises(ValueError, match=r"boxes must have shape \(3, 7\)"):
        coding.encode(torch.ones(1, 7))
    with pytest.raises(ValueError, match=r"residuals must have shape \(3, 7\)"):
        coding.decode(torch.ones(3, 6))


@every_coding
def test_turns_and_volumes_of_other_rows_are_refused(coding_of: Build):
    coding = coding_of(_references())
    with pytest.raises(ValueError, match=r"yaw must have shape \(6,\)"):
        coding.turned(torch.zeros(1, dtype=torch.float64))
    with pytest.raises(ValueError, match="boxes must have shape"):
        coding.log_volume(torch.ones(1, 7, dtype=torch.float64))

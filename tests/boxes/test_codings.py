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

_STD = (0.4, 0.2, 0.15, 0.12, 0.1, 0.08, 0.3, 1.5, 0.6)


def _local(reference: Tensor) -> BoxCoding:
    factors = torch.linspace(0.5, 2, max(len(reference), 1))[: len(reference), None]
    std = torch.tensor(_STD[: reference.shape[1]]).to(reference)
    return LocalCoding(reference, std * factors.to(reference))


def _moving(reference: Tensor) -> BoxCoding:
    """Boxes of nine columns."""
    return _local(reference)


every_coding = pytest.mark.parametrize("coding_of", [AnchorCoding, _local, _moving])
Build = Callable[[Tensor], BoxCoding]


def _numbers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, allow_subnormal=False)


_BOXES = st.tuples(
    *[_numbers(-80, 80)] * 2,
    _numbers(-5, 5),
    *[_numbers(0.1, 15)] * 3,
    _numbers(-math.pi, math.pi),
    *[_numbers(-30, 30)] * 2,
)
_RESIDUALS = st.tuples(*[_numbers(-2, 2)] * 9)


def _row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def _wrapped(angle: Tensor) -> Tensor:
    """The distance of angles from a whole number of turns."""
    return torch.atan2(torch.sin(angle), torch.cos(angle)).abs()


def _columns(coding_of: Build) -> int:
    return 9 if coding_of is _moving else 7


def _references(count: int = 6, columns: int = 7) -> Tensor:
    low = torch.tensor([2.0, -25, -2.2, 0.5, 0.4, 1.0, -3.1, -9, -9], dtype=torch.float64)
    high = torch.tensor([50.0, 25, -0.8, 5.0, 2.2, 2.4, 3.1, 9, 9], dtype=torch.float64)
    rows = low + (high - low) * torch.rand(count, 9, dtype=torch.float64)
    return rows[:, :columns]


def _residuals(*leading: int, columns: int = 7) -> Tensor:
    return 0.4 * torch.randn(*leading, 6, columns, dtype=torch.float64)


@every_coding
@given(reference=_BOXES, box=_BOXES)
def test_decoding_inverts_encoding(
    coding_of: Build, reference: tuple[float, ...], box: tuple[float, ...]
):
    columns = _columns(coding_of)
    coding, boxes = coding_of(_row(*reference[:columns])), _row(*box[:columns])
    back = coding.decode(coding.encode(boxes))
    assert _wrapped(back[:, 6] - boxes[:, 6]).max() < 1e-9
    back[:, 6] = boxes[:, 6]
    torch.testing.assert_close(back, boxes, rtol=1e-9, atol=1e-9)


@every_coding
@given(reference=_BOXES, residual=_RESIDUALS)
def test_encoding_inverts_decoding_to_a_yaw_within_one_turn(
    coding_of: Build, reference: tuple[float, ...], residual: tuple[float, ...]
):
    columns = _columns(coding_of)
    coding, residuals = coding_of(_row(*reference[:columns])), _row(*residual[:columns])
    boxes = coding.decode(residuals)
    assert -math.pi - 1e-12 < float(boxes[0, 6]) <= math.pi + 1e-12
    back = coding.encode(boxes)
    assert _wrapped((back - residuals)[:, 6] * coding.yaw_unit).max() < 1e-9
    back[:, 6] = residuals[:, 6]
    torch.testing.assert_close(back, residuals, rtol=1e-9, atol=1e-8)


@every_coding
def test_jacobian_volume_and_yaw_unit_are_those_of_automatic_differentiation(coding_of: Build):
    columns = _columns(coding_of)
    coding, residuals = coding_of(_references(columns=columns)), _residuals(columns=columns)
    # Rows do not see each other, so that the sum over rows has the rows' derivatives.
    expected = torch.autograd.functional.jacobian(lambda t: coding.decode(t).sum(0), residuals)
    expected = expected.permute(1, 0, 2)
    torch.testing.assert_close(coding.jacobian(residuals), expected)
    log_volume = torch.linalg.slogdet(expected).logabsdet
    torch.testing.assert_close(coding.log_volume(coding.decode(residuals)), log_volume)
    torch.testing.assert_close(coding.yaw_unit, expected[:, 6, 6])


@every_coding
def test_encoding_and_decoding_differentiate(coding_of: Build):
    columns = _columns(coding_of)
    coding = coding_of(_references(2, columns))
    residuals = _residuals(columns=columns)[:2].requires_grad_()
    boxes = coding.decode(residuals).detach().requires_grad_()
    assert torch.autograd.gradcheck(coding.decode, residuals)
    assert torch.autograd.gradcheck(coding.encode, boxes)


@every_coding
def test_turned_coding_decodes_the_same_boxes_with_another_yaw(coding_of: Build):
    columns = _columns(coding_of)
    references, residuals = _references(columns=columns), _residuals(columns=columns)
    residuals[:, [0, 1, *range(7, columns)]] = 0  # along and across rotate with the reference
    yaw = torch.linspace(-3, 3, 6, dtype=torch.float64)
    before = coding_of(references).decode(residuals)
    after = coding_of(references).turned(yaw).decode(residuals)
    assert _wrapped(after[:, 6] - before[:, 6] - yaw).max() < 1e-12
    after[:, 6] = before[:, 6]
    assert torch.equal(after, before)


@every_coding
def test_samples_are_those_of_a_loop(coding_of: Build):
    columns = _columns(coding_of)
    coding = coding_of(_references(columns=columns))
    residuals = 0.3 * torch.randn(6, 4, columns, dtype=torch.float64)
    boxes = coding.decode(residuals)
    for function, values in (
        (coding.decode, residuals),
        (coding.encode, boxes),
        (coding.log_volume, boxes),
    ):
        expected = torch.stack([function(one) for one in values.unbind(1)], dim=1)
        torch.testing.assert_close(function(values), expected)


@every_coding
@pytest.mark.parametrize("count", [0, 6])
def test_number_of_boxes_and_type_are_kept(coding_of: Build, count: int):
    columns = _columns(coding_of)
    coding = coding_of(_references(count, columns).float())
    residuals = _residuals(columns=columns)[:count].float()
    boxes = coding.decode(residuals)
    values = boxes, coding.encode(boxes), coding.jacobian(residuals), coding.log_volume(boxes)
    row = (columns,)
    for value, shape in zip(values, (row, row, 2 * row, ()), strict=True):
        assert value.dtype == torch.float32
        assert value.shape == (count, *shape)


def test_residuals_from_an_anchor_by_hand():
    anchor, box = _row(10.0, 5, -2, 4, 3, 1.5, 0.5), _row(12.0, 4, -1.5, 8, 1.5, 2, -0.25)
    # Diagonal 5 m; centers of height at -0.5 m and -1.25 m, in units of 1.5 m.
    expected = _row(0.4, -0.2, 0.5, math.log(2), -math.log(2), math.log(4 / 3), -0.75)
    torch.testing.assert_close(AnchorCoding(anchor).encode(box), expected)


def test_residuals_along_a_rotated_box_by_hand():
    reference = _row(10.0, 5, -2, 4, 2, 1.5, math.pi / 2, 1, 4)
    box = _row(10.5, 7, -1.7, 8, 2, 1.5, -math.pi + 0.3, 3, 3)
    # Two meters ahead, half a meter to the right; a quarter turn and 0.3 further to the left; one
    # m/s slower ahead, two m/s faster to the right.
    expected = _row(2.0, -1, 3, math.log(2) / 2, 0, 0, 10 * (math.pi / 2 + 0.3), -0.5, -20)
    encoded = LocalCoding(reference, _row(1.0, 0.5, 0.1, 2, 1, 1, 0.1, 2, 0.1)).encode(box)
    torch.testing.assert_close(encoded, expected)
    without = LocalCoding(reference[:, :7], _row(1.0, 0.5, 0.1, 2, 1, 1, 0.1)).encode(box[:, :7])
    assert torch.equal(without, encoded[:, :7])


@pytest.mark.parametrize("columns", [7, 9])
def test_local_residuals_do_not_change_when_the_world_rotates(columns: int):
    references, boxes = _references(columns=columns), _references(columns=columns)
    angle = torch.linspace(-3, 3, 6, dtype=torch.float64)
    rotation = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), dim=1)

    def rotated(rows: Tensor) -> Tensor:
        rows = rows.clone()
        rows[:, 6] += angle
        for first in range(0, columns, 7):  # x and y, and vx and vy
            pair = rows[:, first : first + 2, None].clone()
            rows[:, first : first + 2] = (rotation.view(6, 2, 2) @ pair)[..., 0]
        return rows

    residuals = _local(rotated(references)).encode(rotated(boxes))
    torch.testing.assert_close(residuals, _local(references).encode(boxes))


@pytest.mark.parametrize("columns", [7, 9])
def test_local_residuals_are_the_coordinates_of_the_noise(columns: int, generator: torch.Generator):
    references = _references(columns=columns)
    noise = BoxNoise(_STD[:columns], (1.0,))
    labels = torch.zeros(6, dtype=torch.int64)
    drawn = noise.sample(references, labels, 5, generator)
    std = torch.tensor(_STD[:columns], dtype=torch.float64)
    coding = LocalCoding(references, std.expand(6, columns))
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


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: AnchorCoding(torch.zeros(3, 6)), "reference"),
        (lambda: AnchorCoding(torch.zeros(3, 9)), "reference"),
        (lambda: LocalCoding(torch.ones(3, 8), torch.ones(3, 8)), "reference"),
        (lambda: LocalCoding(torch.ones(3, 9), torch.ones(3, 7)), "noise_std"),
        (lambda: LocalCoding(*torch.ones(2, 3, 9)).encode(torch.ones(3, 7)), "boxes"),
        (lambda: LocalCoding(torch.ones(3, 7), torch.ones(7)), "noise_std"),
        (lambda: AnchorCoding(torch.ones(3, 7)).encode(torch.ones(1, 7)), "boxes"),
        (lambda: AnchorCoding(torch.ones(3, 7)).decode(torch.ones(3, 6)), "residuals"),
        (lambda: AnchorCoding(torch.ones(3, 7)).log_volume(torch.ones(1, 7)), "boxes"),
        (lambda: AnchorCoding(torch.ones(3, 7)).turned(torch.zeros(1)), "yaw"),
    ],
)
def test_other_shapes_are_refused(call: Callable[[], object], name: str):
    with pytest.raises(ValueError, match=f"{name} must have shape"):
        call()

"""The whole path from boxes to outputs: the map, the points, the network."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ebm3d.boxes.kernels import forced_torch
from ebm3d.energy import BoundNetwork, BoxEnergy, EnergyNetwork, RegressionNetwork
from ebm3d.pooling import BEVGridPool, PointBoxPool, Scenes
from ebm3d.refiners import expand_by_differences, expand_exactly

_RANGE = (0.0, -16.0, -3.0, 32.0, 16.0, 1.0)
_SIZES = [[3.9, 1.6, 1.56], [0.8, 0.6, 1.73]]
_OUTPUTS = 5


class _Model:
    """Pools of map and points, networks of one and five outputs, two frames; float64.

    With nine columns boxes have velocities, and the fourth column of the points is their lag.
    """

    def __init__(self, columns: int = 7) -> None:
        moves = columns == 9
        points = PointBoxPool(
            channels=(8, 8),
            max_points=10_000,
            max_box_shift=1.0,
            time_feature=3 if moves else None,
        )
        self.pools = nn.ModuleList([BEVGridPool(6, projection=4), points]).double()
        self.channels = sum(int(pool.out_channels) for pool in self.pools)
        self.network = EnergyNetwork(self.channels, _SIZES, (16,), velocities=moves).double()
        self.regression = RegressionNetwork(
            self.channels, _OUTPUTS, _SIZES, (16,), velocities=moves
        ).double()
        for network in (self.network, self.regression):
            nn.init.normal_(network.layers[-1].weight)  # type: ignore[arg-type]
        low = torch.tensor([6.0, -8, -2, 2, 1.2, 1, -3], dtype=torch.float64)
        spread = torch.tensor([18.0, 16, 1, 3, 1, 1, 6])
        self.boxes = low + torch.rand(6, 7, dtype=torch.float64) * spread
        self.labels = torch.tensor([0, 1, 0, 0, 1, 0])
        self.scene = torch.tensor([0, 0, 1, 1, 1, 0])
        self.bev = torch.randn(2, 6, 40, 40, dtype=torch.float64)
        noise = torch.randn(2, 6, 40, 4, dtype=torch.float64)
        noise[..., :3] = noise[..., :3] * torch.tensor([1.5, 1.0, 0.5]) + self.boxes[:, None, :3]
        if moves:
            velocities = 2 * torch.randn(6, 2, dtype=torch.float64)
            noise[..., 3] = torch.rand(2, 6, 40) / 2
            noise[..., :2] -= noise[..., 3:] * velocities[:, None]
            self.boxes = torch.cat((self.boxes, velocities), dim=1)
        self.clouds = [noise[0].reshape(-1, 4), noise[1].reshape(-1, 4)]

    def energy(self, rows: Any = slice(None), max_evaluations: int | None = None) -> BoxEnergy:
        return self._bind(BoxEnergy, self.network, rows, max_evaluations)

    def outputs(self, rows: Any = slice(None)) -> BoundNetwork:
        return self._bind(BoundNetwork, self.regression, rows)

    def _bind(self, cls: Any, network: Any, rows: Any, max_evaluations: int | None = None) -> Any:
        """Some of the boxes bound to both frames."""
        return cls(
            list(self.pools),
            network,
            Scenes.from_range(self.bev, _RANGE, self.clouds),
            self.boxes[rows],
            self.labels[rows],
            self.scene[rows],
            max_evaluations,
        )

    def variants(self) -> Tensor:
        return self.boxes[:, None] + 0.1 * torch.randn(
            6, 5, self.boxes.shape[1], dtype=torch.float64
        )

    def parameters(self) -> list[Tensor]:
        return [*self.pools.parameters(), *self.network.parameters()]


with_velocities = pytest.mark.parametrize("columns", [7, 9])


@with_velocities
def test_gradient_through_everything_equals_central_differences(columns: int):
    model = _Model(columns)
    f = model.energy()
    boxes = model.boxes.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(boxes).sum(), boxes)
    step = 1e-6
    for d in range(columns):
        shift = torch.zeros(columns, dtype=torch.float64)
        shift[d] = step
        with torch.no_grad():
            difference = (f(model.boxes + shift) - f(model.boxes - shift)) / (2 * step)
        # Error of the difference: third derivative times step^2, and rounding over step.
        torch.testing.assert_close(gradient[:, d], difference, atol=1e-6, rtol=1e-6)
    assert bool((gradient.abs() > 1e-5).all())


def test_hessian_through_everything_equals_central_differences_of_the_gradient():
    # Short steps, as f has kinks at the cells' borders. Rounding over the square of the steps and
    # truncation are 5e-7 together, the least of all radii.
    model = _Model()
    f, noise_std = model.energy(), torch.full_like(model.boxes, 0.1)
    exact = expand_exactly(f, model.boxes, noise_std)
    close = expand_by_differences(f, model.boxes, noise_std, radius=1e-4)
    torch.testing.assert_close(close.hessian, exact.hessian, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(close.gradient, exact.gradient, rtol=1e-5, atol=1e-5)
    assert float(exact.hessian.abs().amax(dim=(1, 2)).min()) > 1e-2


def test_order_of_boxes_and_what_else_is_in_the_batch_do_not_matter():
    model, order = _Model(), torch.tensor([3, 5, 0, 1])
    f, outputs = model.energy()(model.boxes), model.outputs()(model.boxes)
    torch.testing.assert_close(model.energy(order)(model.boxes[order]), f[order])
    torch.testing.assert_close(model.outputs(order)(model.boxes[order]), outputs[order])
    for index in range(2):
        rows, frame = model.scene == index, slice(index, index + 1)
        scenes = Scenes.from_range(model.bev[frame], _RANGE, model.clouds[frame])
        bound = (model.boxes[rows], model.labels[rows])
        alone = BoxEnergy(list(model.pools), model.network, scenes, *bound)  # type: ignore[arg-type]
        torch.testing.assert_close(alone(bound[0]), f[rows])


@with_velocities
def test_every_variant_is_a_box_by_itself(columns: int):
    model = _Model(columns)
    variants = model.variants()
    for bound, shape in ((model.energy(), (6, 5)), (model.outputs(), (6, 5, _OUTPUTS))):
        together = bound(variants)
        assert together.shape == shape
        for s in range(5):
            torch.testing.assert_close(bound(variants[:, s]), together[:, s])


def test_f_does_not_depend_on_where_the_crops_were_made():
    model = _Model()
    expected = model.energy()(model.boxes)
    target = model.boxes.clone()
    model.boxes = target + torch.tensor([0.5, -0.4, 0.3, 0.2, 0.1, 0.1, 0.02])
    torch.testing.assert_close(model.energy()(target), expected)


def test_variants_without_velocities_have_those_of_the_bound_boxes():
    model = _Model(9)
    f, variants = model.energy(), model.variants()
    complete = torch.cat((variants[..., :7], model.boxes[:, None, 7:].expand(-1, 5, -1)), dim=-1)
    assert torch.equal(f(variants[..., :7]), f(complete))
    assert torch.equal(f.pooled(variants[..., :7]), f.pooled(complete))
    assert not torch.allclose(f(variants), f(complete))


@pytest.mark.parametrize("max_evaluations", [1, 7, 18])
def test_evaluating_in_parts_changes_neither_f_nor_gradients(max_evaluations: int):
    model = _Model()
    model.bev.requires_grad_()
    variants, results = model.variants(), []
    for limit in (None, max_evaluations):
        boxes = variants.clone().requires_grad_()
        bound = model.energy(max_evaluations=limit)
        f = bound(boxes)
        wanted = [*model.parameters(), boxes, model.bev]
        gradients = torch.autograd.grad(f.square().sum(), wanted)
        with torch.no_grad():
            results.append((f.detach(), bound(variants), bound.pooled(variants), *gradients))
    for whole, parts in zip(*results, strict=True):
        torch.testing.assert_close(parts, whole)
    assert all(float(gradient.abs().sum()) > 0 for gradient in results[0][3:])


def test_pooled_features_are_what_the_network_reads_without_a_graph():
    model = _Model()
    model.bev.requires_grad_()
    f, variants = model.energy(), model.variants()
    features = f.pooled(variants)
    assert features.shape == (6, 5, model.channels)
    assert not features.requires_grad
    torch.testing.assert_close(model.network(features, variants, model.labels), f(variants))


def test_no_boxes_have_no_outputs():
    model = _Model()
    none, variants = model.boxes[:0], model.variants()[:0]
    assert model.energy(slice(0))(none).shape == (0,)
    assert model.energy(slice(0))(variants).shape == (0, 5)
    assert model.outputs(slice(0))(variants).shape == (0, 5, _OUTPUTS)
    assert model.energy(slice(0)).pooled(variants).shape == (0, 5, model.channels)
    assert model.energy()(model.variants()[:, :0]).shape == (6, 0)


@pytest.mark.parametrize("context", [nullcontext, forced_torch])
def test_a_batch_of_no_frames_has_no_outputs(context: Any):
    model = _Model()
    model.bev, model.clouds = model.bev[:0], []
    with context():
        assert model.energy(slice(0))(model.boxes[:0]).shape == (0,)


def test_box_out_of_the_map_and_away_from_points_has_a_finite_f():
    model = _Model()
    model.boxes[:, :2] += 500
    boxes = model.boxes.clone().requires_grad_()
    f = model.energy()(boxes)
    (gradient,) = torch.autograd.grad(f.sum(), boxes)
    assert bool(torch.isfinite(f).all())
    assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("boxes", Tensor.float, r"boxes must be of the type of scenes\.bev"),
        ("boxes", Tensor.long, "boxes must be of a floating-point type"),
        ("labels", Tensor.byte, "labels must be whole numbers"),
        ("labels", lambda t: t[:5], "labels must have shape"),
        ("labels", lambda t: t + 1, "labels must be from 0 to 1"),
        ("scene", Tensor.double, "scene_index must be whole numbers"),
        ("scene", lambda t: t[:5], "scene_index must have shape"),
        ("scene", lambda t: t + 1, r"scene_index must be in \[0, 2\)"),
        ("scene", lambda t: t.to("meta"), "scene_index must be on cpu, as the boxes"),
        ("bev", lambda t: t.to("meta"), r"scenes\.bev must be on cpu, as the boxes"),
        ("network", lambda _: _Model().regression, r"network\.output_shape must be \(\)"),
    ],
)
@pytest.mark.parametrize("context", [nullcontext, forced_torch])
def test_what_does_not_fit_is_named(
    name: str, change: Any, told: str, context: Callable[[], AbstractContextManager[None]]
):
    model = _Model()
    value = getattr(model, name)
    setattr(model, name, change(value))
    with context(), pytest.raises(ValueError, match=told):
        model.energy()


def test_other_boxes_than_the_bound_ones_are_refused():
    model = _Model()
    f = model.energy()
    for call, boxes in ((f, model.boxes[:3]), (f.pooled, model.boxes)):
        with pytest.raises(ValueError, match=r"boxes must have shape \(6, S, 7\)"):
            call(boxes)
    for call in (f, f.pooled):
        with pytest.raises(ValueError, match="boxes must be of the type"):
            call(model.variants().float())

"""The whole path from boxes to f: the map, the points, the network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ebm3d.energy import BoxEnergy, EnergyNetwork
from ebm3d.pooling import BEVGridPool, PointBoxPool, Scenes
from ebm3d.refiners import expand_by_differences, expand_exactly

_RANGE = (0.0, -16.0, -3.0, 32.0, 16.0, 1.0)
_SIZES = [[3.9, 1.6, 1.56], [0.8, 0.6, 1.73]]


class _Model:
    """Pools, network and two frames, all in float64."""

    def __init__(self, max_points: int = 10_000) -> None:
        self.pools = nn.ModuleList(
            [
                BEVGridPool(6, projection=4),
                PointBoxPool(channels=(8, 8), max_points=max_points, max_box_shift=1.0),
            ]
        ).double()
        channels = sum(int(pool.out_channels) for pool in self.pools)  # type: ignore[arg-type]
        self.network = EnergyNetwork(channels, _SIZES, hidden_channels=(16,)).double()
        nn.init.normal_(self.network.layers[-1].weight)  # type: ignore[arg-type]
        low = torch.tensor([6.0, -8, -2, 2, 1.2, 1, -3], dtype=torch.float64)
        spread = torch.tensor([18.0, 16, 1, 3, 1, 1, 6])
        self.boxes = low + torch.rand(6, 7, dtype=torch.float64) * spread
        self.labels = torch.tensor([0, 1, 0, 0, 1, 0])
        self.scene = torch.tensor([0, 0, 1, 1, 1, 0])
        self.bev = torch.randn(2, 6, 40, 40, dtype=torch.float64)
        noise = torch.randn(2, 6, 40, 4, dtype=torch.float64)
        noise[..., :3] = noise[..., :3] * torch.tensor([1.5, 1.0, 0.5]) + self.boxes[:, None, :3]
        self.clouds = [noise[0].reshape(-1, 4), noise[1].reshape(-1, 4)]

    def energy(self, rows: Tensor | None = None, max_evaluations: int = 2048) -> BoxEnergy:
        """All boxes, or some of them, bound to both frames."""
        rows = torch.arange(6) if rows is None else rows
        scenes = Scenes.from_range(self.bev, _RANGE, self.clouds)
        return BoxEnergy(
            list(self.pools),  # type: ignore[arg-type]
            self.network,
            scenes,
            self.boxes[rows],
            self.labels[rows],
            self.scene[rows],
            max_evaluations,
        )

    def parameters(self) -> list[Tensor]:
        return [*self.pools.parameters(), *self.network.parameters()]


def test_gradient_through_everything_equals_central_differences():
    model = _Model()
    f = model.energy()
    boxes = model.boxes.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(boxes).sum(), boxes)
    step = 1e-6
    for d in range(7):
        shift = torch.zeros(7, dtype=torch.float64)
        shift[d] = step
        with torch.no_grad():
            difference = (f(model.boxes + shift) - f(model.boxes - shift)) / (2 * step)
        # Error of the difference: third derivative times step^2, and rounding over step.
        torch.testing.assert_close(gradient[:, d], difference, atol=1e-6, rtol=1e-6)
    assert bool((gradient.abs() > 1e-5).all())


def test_hessian_through_everything_equals_central_differences_of_the_gradient():
    # Exact and by differences, in residuals: short steps, as f has kinks at the cells' borders.
    model = _Model()
    f, noise_std = model.energy(), torch.full_like(model.boxes, 0.1)
    exact = expand_exactly(f, model.boxes, noise_std)
    close = expand_by_differences(f, model.boxes, noise_std, radius=1e-5)
    torch.testing.assert_close(close.hessian, exact.hessian, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(close.gradient, exact.gradient, rtol=1e-5, atol=1e-5)
    assert float(exact.hessian.abs().amax(dim=(1, 2)).min()) > 1e-2


def test_second_derivatives_are_there_and_symmetric():
    model = _Model()
    f = model.energy(torch.tensor([0]))
    hessian = torch.autograd.functional.hessian(lambda box: f(box[None])[0], model.boxes[0])
    torch.testing.assert_close(hessian, hessian.t(), atol=1e-8, rtol=1e-6)
    assert bool((hessian.diagonal().abs() > 1e-4).all())


def test_order_of_boxes_does_not_matter():
    model, order = _Model(), torch.tensor([3, 5, 0, 1, 4, 2])
    f = model.energy()(model.boxes)
    torch.testing.assert_close(model.energy(order)(model.boxes[order]), f[order])


def test_batch_of_frames_equals_frame_by_frame():
    model = _Model()
    together = model.energy()(model.boxes)
    for index in range(2):
        rows = (model.scene == index).nonzero()[:, 0]
        scenes = Scenes.from_range(
            model.bev[index : index + 1], _RANGE, model.clouds[index : index + 1]
        )
        alone = BoxEnergy(
            list(model.pools),  # type: ignore[arg-type]
            model.network,
            scenes,
            model.boxes[rows],
            model.labels[rows],
        )
        torch.testing.assert_close(alone(model.boxes[rows]), together[rows])


def test_variants_are_boxes_of_their_own():
    model = _Model()
    f = model.energy()
    variants = model.boxes[:, None] + 0.1 * torch.randn(6, 5, 7, dtype=torch.float64)
    together = f(variants)
    assert together.shape == (6, 5)
    for s in range(5):
        torch.testing.assert_close(together[:, s], f(variants[:, s]))


def test_f_does_not_depend_on_where_the_crops_were_made():
    model = _Model()
    expected = model.energy()(model.boxes)
    target = model.boxes.clone()
    model.boxes = target + torch.tensor([0.5, -0.4, 0.3, 0.2, 0.1, 0.1, 0.02])
    torch.testing.assert_close(model.energy()(target), expected)


@pytest.mark.parametrize("max_evaluations", [1, 7, 18])
def test_evaluating_in_parts_changes_neither_f_nor_gradients(max_evaluations: int):
    model = _Model()
    model.bev.requires_grad_()
    variants = model.boxes[:, None] + 0.1 * torch.randn(6, 5, 7, dtype=torch.float64)
    found = []
    for limit in (2048, max_evaluations):
        boxes = variants.clone().requires_grad_()
        f = model.energy(max_evaluations=limit)(boxes)
        wanted = [*model.parameters(), boxes, model.bev]
        found.append((f.detach(), *torch.autograd.grad(f.square().sum(), wanted)))
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(parts, whole)


def test_evaluating_in_parts_works_without_gradients():
    model = _Model()
    variants = model.boxes[:, None].expand(-1, 5, -1)
    with torch.no_grad():
        torch.testing.assert_close(
            model.energy(max_evaluations=7)(variants), model.energy()(variants)
        )


def test_gradient_reaches_every_parameter_and_the_map():
    model = _Model()
    model.bev.requires_grad_()
    model.energy()(model.boxes).square().sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in model.parameters())
    assert float(model.bev.grad.abs().sum()) > 0


def test_no_boxes_have_no_f():
    model = _Model()
    rows = torch.zeros(0, dtype=torch.int64)
    assert model.energy(rows)(model.boxes[rows]).shape == (0,)
    assert model.energy(rows)(model.boxes[rows, None].expand(0, 4, 7)).shape == (0, 4)


def test_box_out_of_the_map_and_away_from_points_has_a_finite_f():
    model = _Model()
    model.boxes[:, :2] += 500
    boxes = model.boxes.clone().requires_grad_()
    f = model.energy()(boxes)
    (gradient,) = torch.autograd.grad(f.sum(), boxes)
    assert bool(torch.isfinite(f).all())
    assert bool(torch.isfinite(gradient).all())


def test_other_boxes_than_the_bound_ones_are_refused():
    model = _Model()
    with pytest.raises(ValueError, match=r"boxes must have shape \(6, \[S,\] 7\)"):
        model.energy()(model.boxes[:3])


def test_labels_and_frames_must_be_one_per_box():
    model = _Model()
    scenes = Scenes.from_range(model.bev, _RANGE, model.clouds)
    pools = list(model.pools)
    with pytest.raises(ValueError, match=r"labels must have shape \(6,\)"):
        BoxEnergy(pools, model.network, scenes, model.boxes, model.labels[:5])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"scene_index must have shape \(6,\)"):
        BoxEnergy(
            pools,  # type: ignore[arg-type]
            model.network,
            scenes,
            model.boxes,
            model.labels,
            model.scene[:5],
        )

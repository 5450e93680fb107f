from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor, nn

from ebm3d.boxes.kernels import forced_torch
from ebm3d.energy import BoundNetwork, BoxEnergy, RegressionNetwork
from ebm3d.pooling import BEVGridPool, PointBoxPool, Scenes

_RANGE = (0.0, -16.0, -3.0, 32.0, 16.0, 1.0)
_SIZES = [[3.9, 1.6, 1.56], [0.8, 0.6, 1.73]]
_OUTPUTS = 5


class _Model:
    """A pool of the map and a network of five outputs, in float64."""

    def __init__(self) -> None:
        self.pool = BEVGridPool(6, projection=4).double()
        self.network = RegressionNetwork(
            self.pool.out_channels, _OUTPUTS, _SIZES, hidden_channels=(16,)
        ).double()
        nn.init.normal_(self.network.layers[-1].weight)  # type: ignore[arg-type]
        low = torch.tensor([6.0, -8, -2, 2, 1.2, 1, -3], dtype=torch.float64)
        spread = torch.tensor([18.0, 16, 1, 3, 1, 1, 6])
        self.boxes = low + torch.rand(6, 7, dtype=torch.float64) * spread
        self.labels = torch.tensor([0, 1, 0, 0, 1, 0])
        self.scene = torch.tensor([0, 0, 1, 1, 1, 0])
        self.bev = torch.randn(2, 6, 40, 40, dtype=torch.float64)

    def bound(self, count: int = 6, max_evaluations: int = 2048) -> BoundNetwork:
        """The first boxes bound to both frames."""
        return BoundNetwork(
            [self.pool],
            self.network,
            Scenes.from_range(self.bev, _RANGE),
            self.boxes[:count],
            self.labels[:count],
            self.scene[:count],
            max_evaluations,
        )

    def variants(self) -> Tensor:
        return self.boxes[:, None] + 0.1 * torch.randn(6, 4, 7, dtype=torch.float64)


def test_every_variant_has_all_outputs():
    model = _Model()
    bound, variants = model.bound(), model.variants()
    together = bound(variants)
    assert together.shape == (6, 4, _OUTPUTS)
    for s in range(4):
        torch.testing.assert_close(bound(variants[:, s]), together[:, s])


@pytest.mark.parametrize("max_evaluations", [1, 7, 12])
def test_evaluating_in_parts_changes_neither_outputs_nor_gradients(max_evaluations: int):
    model = _Model()
    model.bev.requires_grad_()
    variants, found = model.variants(), []
    for limit in (2048, max_evaluations):
        boxes = variants.clone().requires_grad_()
        outputs = model.bound(max_evaluations=limit)(boxes)
        wanted = [*model.pool.parameters(), *model.network.parameters(), boxes, model.bev]
        found.append((outputs.detach(), *torch.autograd.grad(outputs.square().sum(), wanted)))
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("with_points", [False, True])
def test_a_batch_of_no_frames_has_no_outputs(with_points: bool):
    """On both paths: with points there is a crop, too."""
    model = _Model()
    pools = [model.pool, PointBoxPool((8, 8)).double()][: 1 + with_points]
    scenes = Scenes.from_range(model.bev[:0], _RANGE, [])
    none = model.labels[:0]
    for context in (nullcontext(), forced_torch()):
        with context:
            bound = BoundNetwork(pools, model.network, scenes, model.boxes[:0], none, none)
            assert bound(model.boxes[:0]).shape == (0, _OUTPUTS)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"boxes": Tensor.float},
            r"boxes must be of the type of scenes.bev, torch.float64.*float32",
        ),
        ({"boxes": Tensor.long}, r"boxes must be of a floating-point type.*boxes\.float"),
        ({"labels": Tensor.byte}, r"labels must be whole numbers, int64 or int32.*labels\.long"),
        ({"scene": Tensor.double}, r"scene_index must be whole numbers.*scene_index\.long"),
        ({"scene": lambda t: t.to("meta")}, "scene_index must be on cpu, as the boxes.*on meta"),
        ({"bev": lambda t: t.to("meta")}, "scenes.bev must be on cpu, as the boxes.*on meta"),
    ],
)
@pytest.mark.parametrize("context", [nullcontext, forced_torch])
def test_another_type_or_device_is_named(
    changes: dict[str, Callable[[Tensor], Tensor]],
    told: str,
    context: Callable[[], AbstractContextManager[None]],
):
    model = _Model()
    for name, change in changes.items():
        setattr(model, name, change(getattr(model, name)))
    with context(), pytest.raises(ValueError, match=told):
        model.bound()


def test_variants_of_another_type_are_named():
    model = _Model()
    bound = model.bound()
    for call, boxes in ((bound, model.boxes), (bound.pooled, model.variants())):
        with pytest.raises(ValueError, match=r"boxes must be of the type .*float64, but got .*32"):
            call(boxes.float())


def test_no_boxes_have_no_outputs():
    model = _Model()
    assert model.bound(0)(model.boxes[:0]).shape == (0, _OUTPUTS)
    assert model.bound(0)(model.variants()[:0]).shape == (0, 4, _OUTPUTS)


def test_outputs_of_a_box_depend_on_its_own_frame_alone():
    model = _Model()
    expected = model.bound()(model.boxes)
    model.bev[1] += 1
    found = model.bound()(model.boxes)
    own = model.scene == 0
    torch.testing.assert_close(found[own], expected[own])
    assert bool((found[~own] != expected[~own]).any(dim=1).all())


def test_frame_that_is_not_there_is_refused():
    model = _Model()
    model.scene[0] = 2
    with pytest.raises(ValueError, match=r"scene_index must be in \[0, 2\)"):
        model.bound()


def test_energy_of_a_network_with_many_outputs_is_refused():
    model = _Model()
    scenes = Scenes.from_range(model.bev, _RANGE)
    with pytest.raises(ValueError, match="one value per box"):
        BoxEnergy([model.pool], model.network, scenes, model.boxes, model.labels)


def test_network_without_outputs_is_refused():
    with pytest.raises(ValueError, match="num_outputs must be at least 1"):
        RegressionNetwork(4, 0, _SIZES)


@pytest.mark.parametrize("max_evaluations", [2048, 7])
def test_pooled_features_are_what_the_network_reads_without_a_graph(max_evaluations: int):
    model = _Model()
    model.bev.requires_grad_()
    bound, variants = model.bound(max_evaluations=max_evaluations), model.variants()
    features = bound.pooled(variants)
    assert features.shape == (6, 4, model.pool.out_channels)
    assert not features.requires_grad
    torch.testing.assert_close(
        model.network(features, variants, model.labels), model.bound()(variants)
    )


def test_labels_of_a_bound_network_are_the_bound_ones():
    model = _Model()
    assert torch.equal(model.bound().labels, model.labels)


def test_no_boxes_have_no_features():
    model = _Model()
    assert model.bound(0).pooled(model.variants()[:0]).shape == (0, 4, model.pool.out_channels)


def test_features_of_another_number_of_boxes_are_refused():
    model = _Model()
    with pytest.raises(ValueError, match=r"boxes must have shape \(6, S, 7\)"):
        model.bound().pooled(model.boxes)

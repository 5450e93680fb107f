"""The smallest refinement head: two methods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("mmdet3d")

from tests.adapters.refined import build_frames
from tests.adapters.test_refined_dense_head import _dense_config, _map, _samples

pytestmark = [
    pytest.mark.mmdet3d,
    pytest.mark.usefixtures("registered"),
    # The host, of its own calls.
    pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning"),
]


@pytest.fixture
def build() -> Iterator[Any]:
    """Wraps a dense head, with the two methods alone as the refinement head."""
    from mmdet3d.registry import MODELS
    from mmengine.model import BaseModule

    from ebm3d.adapters.refinement_heads import RefinementHead

    class LiftingHead(RefinementHead):
        """Learns how much too low boxes are, from the true ones."""

        def __init__(self) -> None:
            super().__init__()
            self.lift = torch.nn.Parameter(torch.tensor(0.5))

        def loss(self, bev: Any, points: Any, boxes: Any, labels: Any) -> dict[str, Tensor]:
            return {"loss_lift": (self.lift - torch.cat(boxes)[:, 2].mean()).square()}

        def refine(self, bev: Any, points: Any, boxes: Any, labels: Any, scores: Any) -> list[Any]:
            up = torch.eye(7)[2] * self.lift
            return [{"boxes": b[:, :7] + up, "lifts": self.lift.expand(len(b))} for b in boxes]

    class OtherModule(BaseModule):
        """No refinement head."""

    def wrapped(name: str) -> Any:
        dense, train, test = _dense_config()
        head = {"type": "RefinedDenseHead", "dense_head": dense, "refinement_head": {"type": name}}
        return MODELS.build({**head, "train_cfg": train, "test_cfg": test})

    modules = (LiftingHead, OtherModule)
    for module in modules:
        MODELS.register_module(module=module)
    yield wrapped
    for module in modules:
        del MODELS.module_dict[module.__name__]


def test_two_methods_make_a_refinement_head(build: Any):
    head, bev = build("LiftingHead"), _map()
    losses = head.loss([bev], _samples(build_frames()))
    assert set(losses) == {"loss_lift"}
    losses["loss_lift"].backward()
    assert float(head.refinement_head.lift.grad.abs()) > 0
    with torch.no_grad():
        results = head.eval().predict([bev], _samples(build_frames()))
    for result in results:
        moved = result.bboxes_3d.tensor - result.initial_bboxes_3d.tensor
        torch.testing.assert_close(moved, (torch.eye(7)[2] * 0.5).expand_as(moved))
        assert len(result.lifts) == len(moved) > 0


def test_module_that_is_no_refinement_head_is_refused_by_name(build: Any):
    with pytest.raises(ValueError, match=r"RefinementHead, but got OtherModule"):
        build("OtherModule")

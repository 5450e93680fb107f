"""Any dense head on a bird's-eye-view map, followed by a refinement head."""

from __future__ import annotations

import logging
from typing import Any

import torch
from mmdet3d.registry import MODELS
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor

from ebm3d.adapters.dense_heads.score_fusion import INITIAL_SCORES, ScoreFusion
from ebm3d.adapters.detectors import MapsAndPoints
from ebm3d.adapters.refinement_heads.refinement_head import RefinementHead
from ebm3d.errors import input_error

_DENSITY_FIELDS = ("box_std", "box_covariance", "box_distribution")
_DETECTORS = ("frozen", "detached", "joint")
_NOT_FROZEN = (
    "detector='frozen', but the detector is in training: its batch-norm statistics drift. Add "
    "dict(type='FreezeDetectorHook') to custom_hooks."
)


@MODELS.register_module()
class RefinedDenseHead(BaseModule):
    """Wraps a dense head of the host and refines its boxes after NMS.

    Checkpoints of the wrapped head load unchanged: keys without the ``dense_head.`` prefix are
    taken as the wrapped head's.

    Args:
        dense_head: config of any head with the host's ``loss(x, samples)`` and
            ``predict(x, samples)``.
        refinement_head: config of a
            :class:`~ebm3d.adapters.refinement_heads.refinement_head.RefinementHead`.
        detector: "frozen": only the refinement head is trained (with ``FreezeDetectorHook``, which
            reads this option); "detached": both are trained, the head on maps that pass no
            gradient to the detector; "joint": the losses of both are summed.
        refine: False returns the wrapped head's boxes (``tools/test.py --no-refine``).
        train_cfg: handed to the dense head.
        test_cfg: handed to the dense head.
        init_cfg: as in mmengine.

    Raises:
        ValueError: for an unknown ``detector``, or a refinement head that is not derived from
            ``RefinementHead``.
    """

    def __init__(
        self,
        dense_head: dict[str, Any],
        refinement_head: dict[str, Any],
        detector: str = "frozen",
        refine: bool = True,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if detector not in _DETECTORS:
            raise input_error("detector", f"one of {', '.join(_DETECTORS)}", repr(detector))
        self.detector, self.refine = detector, refine
        self._warned = False
        settings = {"train_cfg": train_cfg, "test_cfg": test_cfg}
        settings = {key: value for key, value in settings.items() if value is not None}
        self.dense_head = MODELS.build({**dense_head, **settings})
        self.refinement_head = MODELS.build(refinement_head)
        if not isinstance(self.refinement_head, RefinementHead):
            expected = "derived from ebm3d.adapters.refinement_heads.RefinementHead"
            raise input_error("refinement_head", expected, type(self.refinement_head).__name__)
        self.score_fusion = ScoreFusion()
        self._register_load_state_dict_pre_hook(_prefix_dense_head)

    def forward(self, x: Any) -> Any:
        """Return the wrapped head's raw outputs, as the host's ``mode='tensor'`` expects."""
        return self.dense_head(_maps_and_points(x).maps)

    def loss(self, x: Any, batch_data_samples: list[Any], **kwargs: Any) -> dict[str, Tensor]:
        """Return the losses of the refinement head, and of the wrapped head if trained jointly.

        Args:
            x: maps of the neck, or :class:`~ebm3d.adapters.detectors.MapsAndPoints`; the first map
                feeds the refinement head.
            batch_data_samples: with ``gt_instances_3d``.
            **kwargs: for the wrapped head, as the host's detectors pass them.

        Returns:
            Named losses.
        """
        maps, points = _maps_and_points(x)
        bev = _first(maps)
        # Before the wrapped head's loss, which replaces the host's boxes in the samples by tensors.
        boxes = [s.gt_instances_3d.bboxes_3d.tensor.to(bev.device) for s in batch_data_samples]
        labels = [s.gt_instances_3d.labels_3d.to(bev.device) for s in batch_data_samples]
        losses: dict[str, Tensor] = {}
        if self.detector != "frozen":
            losses.update(self.dense_head.loss(maps, batch_data_samples, **kwargs))
        elif bev.requires_grad and not self._warned:
            self._warned = True
            print_log(_NOT_FROZEN, logger="current", level=logging.WARNING)
        if self.detector != "joint":
            bev = bev.detach()
        losses.update(self.refinement_head.loss(bev, points, boxes, labels))
        return losses

    def predict(
        self, x: Any, batch_data_samples: list[Any], rescale: bool = False, **kwargs: Any
    ) -> list[InstanceData]:
        """Predict with the wrapped head, then refine.

        Args:
            x: maps of the neck, or :class:`~ebm3d.adapters.detectors.MapsAndPoints`.
            batch_data_samples: for the wrapped head.
            rescale: for the wrapped head.
            **kwargs: for the wrapped head.

        Returns:
            Per frame the wrapped head's result with ``bboxes_3d`` refined, ``initial_bboxes_3d``,
            and the refinement head's fields: ``f_initial`` and ``f_refined``, or ``box_std``,
            ``box_covariance`` and ``box_distribution`` (NaN where a box was not refined; those of
            the wrapped head get the prefix ``initial_``). Labels and order are the wrapped head's;
            where scores are changed, by a ``score_decay`` or a fitted fusion, those before are
            ``initial_scores_3d``.
        """
        maps, points = _maps_and_points(x)
        bev = _first(maps)
        # Under mixed precision too: the host's NMS takes no mixed types.
        with torch.autocast(bev.device.type, enabled=False):
            maps = [m.float() for m in maps] if isinstance(maps, (list, tuple)) else maps.float()
            results: list[InstanceData] = self.dense_head.predict(
                maps, batch_data_samples, rescale=rescale, **kwargs
            )
            if not self.refine:
                return results
            refined = self.refinement_head.refine(
                _first(maps),
                points,
                [r.bboxes_3d.tensor for r in results],
                [r.labels_3d for r in results],
                [r.scores_3d for r in results],
            )
        for result, fields in zip(results, refined, strict=True):
            _set_refined(result, fields)
            self.score_fusion(result)
        return results


def _maps_and_points(x: Any) -> MapsAndPoints:
    """The detector's output; maps alone come without points."""
    return x if isinstance(x, MapsAndPoints) else MapsAndPoints(x, [])


def _first(maps: Any) -> Tensor:
    """The map the refinement head reads."""
    bev: Tensor = maps[0] if isinstance(maps, (list, tuple)) else maps
    return bev


def _set_refined(result: InstanceData, refined: dict[str, Any]) -> None:
    """Put refined boxes and their fields beside the initial ones, in place."""
    for name in _DENSITY_FIELDS:  # of the wrapped head's boxes
        if name in result:
            result.set_field(result.pop(name), f"initial_{name}")
    initial = result.bboxes_3d
    result.initial_bboxes_3d = initial
    result.bboxes_3d = initial.clone()
    boxes = refined.pop("boxes")  # of seven columns, or nine with velocities
    result.bboxes_3d.tensor = torch.cat((boxes, initial.tensor[:, boxes.shape[1] :]), dim=1)
    if "scores_3d" in refined:
        result.set_field(result.scores_3d, INITIAL_SCORES)
    for name, value in refined.items():
        result.set_field(value, name)


def _prefix_dense_head(state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Rename the keys of a checkpoint of the wrapped head alone."""
    parts = ("dense_head.", "refinement_head.", "score_fusion.")
    for key in [key for key in state_dict if key.startswith(prefix)]:
        rest = key.removeprefix(prefix)
        if not rest.startswith(parts):
            state_dict[f"{prefix}dense_head.{rest}"] = state_dict.pop(key)

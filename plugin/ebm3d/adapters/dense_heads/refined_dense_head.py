"""Any dense head on a bird's-eye-view map, followed by a refinement head."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from mmdet3d.registry import MODELS
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor

from ebm3d.adapters.dense_heads.after_refinement import (
    INITIAL_SCORES,
    build_fusion,
    check_wider,
    fuse_scores,
    suppress,
    suppressing_less,
)
from ebm3d.adapters.refinement_heads.refinement_head import RefinementHead
from ebm3d.errors import input_error
from ebm3d.noise import Detections

_WRAPPED = "dense_head."
_REFINEMENT = "refinement_head."
_OF_BOXES = ("box_std", "box_covariance", "box_distribution")
INITIAL_INSTANCES = "initial_instances_3d"
"""Field of a data sample: what the dense head alone gives, where refinement chose other boxes."""


@MODELS.register_module()
class RefinedDenseHead(BaseModule):
    """Wraps a dense head of the host; its boxes are refined after NMS and direction fix, or before.

    Checkpoints of the wrapped head alone load unchanged: keys without the ``dense_head.`` prefix
    are taken as the wrapped head's.

    Args:
        dense_head: config of any head with the host's ``loss(x, samples)`` and
            ``predict(x, samples)``.
        refinement_head: config of a head such as ``EBMRefinementHead``, or of one's own:
            :class:`ebm3d.adapters.refinement_heads.RefinementHead`.
        detector: "frozen": only the refinement head learns (use the ``FreezeDetectorHook``, which
            reads this option, so that batch-norm statistics stand still too); "joint": the losses
            of both are summed, and the map receives gradients of both.
        refine: False gives the wrapped head's boxes as they are (``tools/test.py --no-refine``).
        score_fusion: scores become the probability that the refined box fits, from the detector's
            score and what the refinement head says (M-31): a file that ``tools/test.py
            --fit-fusion`` wrote, or the arguments of
            :class:`ebm3d.evaluation.score_fusion.ScoreFusion`; None leaves the scores alone.
        refine_before_nms: ``dict(nms_thr=..., max_num=...)``, with which the dense head suppresses
            meanwhile: all it leaves is refined, and then suppressed by the fused scores with the
            dense head's own ``nms_thr`` and ``max_num``. The dense head then predicts twice: the
            candidates, and what it would have given alone. None refines what NMS has left.
        train_cfg: handed to the dense head, as the host does.
        test_cfg: handed to the dense head, as the host does.
        init_cfg: as in mmengine.

    Raises:
        FileNotFoundError: if there is no file ``score_fusion``.
        ValueError: for an unknown ``detector``, a ``score_fusion`` without weights, a dense head
            without the suppression that ``refine_before_nms`` is about, or a refinement head that
            is not derived from ``RefinementHead``.
    """

    def __init__(
        self,
        dense_head: dict[str, Any],
        refinement_head: dict[str, Any],
        detector: str = "frozen",
        refine: bool = True,
        score_fusion: str | Mapping[str, Any] | None = None,
        refine_before_nms: Mapping[str, Any] | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if detector not in ("frozen", "joint"):
            raise input_error("detector", "'frozen' or 'joint'", repr(detector))
        self.detector, self.refine = detector, refine
        self._warned = False
        handed = {"train_cfg": train_cfg, "test_cfg": test_cfg}
        handed = {key: value for key, value in handed.items() if value is not None}
        self.dense_head = MODELS.build({**dense_head, **handed})
        self.refinement_head = MODELS.build(refinement_head)
        if not isinstance(self.refinement_head, RefinementHead):
            expected = "derived from ebm3d.adapters.refinement_heads.RefinementHead"
            raise input_error("refinement_head", expected, type(self.refinement_head).__name__)
        self.score_fusion = build_fusion(score_fusion)
        self.refine_before_nms = check_wider(self.dense_head, refine_before_nms)
        self._register_load_state_dict_pre_hook(_prefix_stock_keys)

    def forward(self, x: Any) -> Any:
        """Return the wrapped head's raw outputs, as the host's ``mode='tensor'`` expects."""
        return self.dense_head(x)

    def loss(self, x: Any, batch_data_samples: list[Any], **kwargs: Any) -> dict[str, Tensor]:
        """Return the losses of the refinement head, and of the wrapped head if trained jointly.

        Args:
            x: maps of the neck; the first one feeds the refinement head.
            batch_data_samples: with ``gt_instances_3d``, and ``points`` where the head pools
                points.
            **kwargs: passed on to the wrapped head, as the host's detectors do.

        Returns:
            Named losses.
        """
        points = take_points(batch_data_samples)
        losses: dict[str, Tensor] = {}
        bev = first_map(x)
        # Before the wrapped head's loss, which replaces the host's boxes in the samples by tensors.
        boxes = [s.gt_instances_3d.bboxes_3d.tensor.to(bev.device) for s in batch_data_samples]
        labels = [s.gt_instances_3d.labels_3d.to(bev.device) for s in batch_data_samples]
        found = []
        if self.refinement_head.wants_detections:
            found.append(detect(self.dense_head, x, batch_data_samples))
        if self.detector == "joint":
            losses.update(self.dense_head.loss(x, batch_data_samples, **kwargs))
        else:
            if bev.requires_grad and not self._warned:
                self._warned = True
                print_log(
                    "detector='frozen', but the detector is not held still: its batch-norm "
                    "statistics drift. Add dict(type='FreezeDetectorHook') to custom_hooks.",
                    logger="current",
                    level=logging.WARNING,
                )
            bev = bev.detach()
        losses.update(self.refinement_head.loss(bev, points, boxes, labels, *found))
        return losses

    def predict(
        self, x: Any, batch_data_samples: list[Any], rescale: bool = False, **kwargs: Any
    ) -> list[InstanceData]:
        """Predict with the wrapped head, then refine.

        Args:
            x: maps of the neck.
            batch_data_samples: with ``points`` where the head pools points.
            rescale: passed on.
            **kwargs: passed on.

        Returns:
            Per frame the wrapped head's result, with ``bboxes_3d`` refined and further fields
            ``initial_bboxes_3d`` and those of the refinement head: ``f_initial`` and ``f_refined``,
            or ``box_std``, ``box_covariance`` and ``box_distribution`` (NaN where a box was beyond
            the head's bound on refined boxes; those of the wrapped head get the prefix
            ``initial_``). Labels and order are the wrapped head's, and so are scores unless the
            refinement head lowers them (``score_decay``) or they are fused: then they were
            ``initial_scores_3d``. With ``refine_before_nms`` boxes are fewer and by class, each
            with the candidate it was as ``initial_bboxes_3d``: not the boxes that the wrapped
            head's own suppression would have left, which each sample receives as
            ``initial_instances_3d``.

        Raises:
            ValueError: if scores are to be fused that the refinement head has changed.
        """
        with torch.autocast(first_map(x).device.type, enabled=False):
            return self._predict(in_float32(x), batch_data_samples, rescale, **kwargs)

    def _predict(
        self, x: Any, batch_data_samples: list[Any], rescale: bool, **kwargs: Any
    ) -> list[InstanceData]:
        """Predictions from maps of float32: the host's suppression takes no mixed types."""
        points = take_points(batch_data_samples)
        wider = self.refine_before_nms if self.refine else None
        if wider is not None:
            alone = self.dense_head.predict(x, batch_data_samples, rescale=rescale, **kwargs)
            for sample, result in zip(batch_data_samples, alone, strict=True):
                sample.set_field(result, INITIAL_INSTANCES)
        with suppressing_less(self.dense_head, wider):
            results = self.dense_head.predict(x, batch_data_samples, rescale=rescale, **kwargs)
        if not self.refine:
            return results
        boxes = [r.bboxes_3d.tensor for r in results]
        refined = self.refinement_head.refine(
            first_map(x),
            points,
            boxes,
            [r.labels_3d for r in results],
            [r.scores_3d for r in results],
        )
        results = [with_refined(r, new) for r, new in zip(results, refined, strict=True)]
        if self.score_fusion is not None:
            results = [fuse_scores(r, self.score_fusion) for r in results]
        if wider is not None:
            results = [suppress(r, self.dense_head.test_cfg) for r in results]
        return results


@torch.no_grad()
def detect(dense_head: Any, x: Any, batch_data_samples: list[Any]) -> list[Detections]:
    """Return what a dense head finds in training frames, as it would at inference.

    Args:
        dense_head: of the host; in evaluation mode meanwhile, so that batch-norm statistics are
            used and not changed.
        x: maps of the neck.
        batch_data_samples: with the metainfo that the head's ``predict`` reads; not changed.

    Returns:
        Detections of each frame, after NMS.
    """
    modes = [(module, module.training) for module in dense_head.modules()]
    dense_head.eval()
    try:
        with torch.autocast(first_map(x).device.type, enabled=False):
            results = dense_head.predict(in_float32(x), batch_data_samples)
    finally:
        for module, mode in modes:
            module.training = mode
    return [Detections(r.bboxes_3d.tensor[:, :7], r.labels_3d) for r in results]


def first_map(x: Any) -> Tensor:
    """Return the map the refinement head reads: the first of the neck's outputs."""
    bev: Tensor = x[0] if isinstance(x, (list, tuple)) else x
    return bev


def in_float32(x: Any) -> Any:
    """Return the neck's outputs in float32, whatever they were under mixed precision."""
    return [m.float() for m in x] if isinstance(x, (list, tuple)) else x.float()


def take_points(batch_data_samples: list[Any]) -> list[Tensor]:
    """Take the clouds off the samples, so that they do not travel on with the predictions."""
    points = [sample.pop("points") for sample in batch_data_samples if "points" in sample]
    return points if len(points) == len(batch_data_samples) else []


def with_refined(result: InstanceData, refined: dict[str, Any]) -> InstanceData:
    """Put refined boxes, and what the refinement head says of them, beside the initial ones.

    Args:
        result: of a dense head; changed in place.
        refined: ``boxes`` ``(N, 7)`` and further fields of length N. Where ``scores_3d`` is among
            them, the scores before become ``initial_scores_3d``.

    Returns:
        ``result``.
    """
    for name in _OF_BOXES:  # what the wrapped head says of its own boxes goes with those
        if name in result:
            result.set_field(result.pop(name), f"initial_{name}")
    initial = result.bboxes_3d
    new = initial.clone()
    new.tensor = torch.cat((refined["boxes"], initial.tensor[:, 7:]), dim=1)
    result.initial_bboxes_3d = initial
    result.bboxes_3d = new
    if "scores_3d" in refined:
        result.set_field(result.scores_3d, INITIAL_SCORES)
    for name, value in refined.items():
        if name != "boxes":
            result.set_field(value, name)
    return result


def _prefix_stock_keys(state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Rename the keys of a checkpoint of the wrapped head alone."""
    own = [key for key in state_dict if key.startswith(prefix)]
    for key in own:
        rest = key[len(prefix) :]
        if not rest.startswith((_WRAPPED, _REFINEMENT)):
            state_dict[prefix + _WRAPPED + rest] = state_dict.pop(key)

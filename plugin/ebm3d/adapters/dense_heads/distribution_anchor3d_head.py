"""The host's anchor head with a box regression that predicts densities."""

from __future__ import annotations

import math
from typing import Any

import torch
from mmdet3d.models.dense_heads import Anchor3DHead
from mmdet3d.models.task_modules import DeltaXYZWLHRBBoxCoder
from mmdet3d.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ebm3d.adapters.dense_heads.anchor_cells import anchor_outputs
from ebm3d.adapters.dense_heads.box_selection import select_boxes
from ebm3d.boxes import wrap_to_pi
from ebm3d.boxes.codings import AnchorCoding
from ebm3d.densities import BoxDistribution
from ebm3d.densities.voting import VarianceVoting
from ebm3d.errors import input_error, is_number
from ebm3d.regressions import NUM_RESIDUALS, BoxRegression

_STOCK_REGRESSION = (
    "set loss_bbox=None and, for the host's loss, regression=dict(type='DirectBoxRegression', "
    "beta=1/9, sin_difference=True, loss_weight=2.0)"
)


@MODELS.register_module()
class DistributionAnchor3DHead(Anchor3DHead):
    """``Anchor3DHead`` with ``regression=dict(type=...)`` in place of ``loss_bbox``.

    Classification, direction, anchors, targets and NMS are the host's. The regression's last layer
    is the host's ``conv_reg``, a 1x1 convolution, applied only to the cells that need it: those of
    positive anchors in training, those of the ``nms_pre`` best anchors in inference, so that wide
    outputs cost no memory. docs/method.md, M-19. With ``dict(type='DirectBoxRegression', beta=1/9,
    sin_difference=True, loss_weight=2.0)`` losses, predictions and checkpoints are the stock
    head's.

    Args:
        regression: config of a :class:`~ebm3d.regressions.BoxRegression` of the residuals of the
            host's box coder. With a direction classifier yaws are learned modulo pi: targets are
            wrapped into (-pi/2, pi/2], and the densities have period pi.
        score_decay: scores are multiplied by exp(-score_decay u) before NMS, u the
            :func:`~ebm3d.densities.uncertainty.relative_uncertainty`.
        voting: ``dict(iou_threshold=..., temperature=...)`` of
            :class:`~ebm3d.densities.voting.VarianceVoting`, or None for the boxes NMS keeps.
        loss_bbox: None; a regression brings its loss.
        loss_velocity: config of the host's loss of the velocities, if the box coder has nine
            residuals: the density is of the first seven, velocities are regressed as in the host.
        **kwargs: of ``Anchor3DHead``. ``diff_rad_by_sin`` must equal ``use_direction_classifier``
            (with only one of them the heading would be learned by nothing, or twice);
            ``train_cfg.code_weight`` needs a regression with one loss per residual.

    Raises:
        TypeError: for an argument that ``Anchor3DHead`` does not take.
        ValueError: if ``loss_bbox`` is given, the box coder is not the host's, ``regression`` is no
            box regression, or other options do not fit these.
    """

    def __init__(
        self,
        regression: dict[str, Any],
        score_decay: float = 0.0,
        voting: dict[str, float] | None = None,
        loss_bbox: None = None,
        loss_velocity: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if loss_bbox is not None:
            raise input_error("loss_bbox", "None", loss_bbox, _STOCK_REGRESSION)
        if not is_number(score_decay) or score_decay < 0:
            raise input_error("score_decay", "at least 0 and finite", score_decay)
        super().__init__(**kwargs)
        del self.loss_bbox  # the host's default
        if self.diff_rad_by_sin != self.use_direction_classifier:
            expected = f"use_direction_classifier ({self.use_direction_classifier})"
            remedy = "yaws are learned modulo pi where, and only where, there is a classifier"
            raise input_error("diff_rad_by_sin", expected, self.diff_rad_by_sin, remedy)
        coder = self.bbox_coder
        self.num_velocities = getattr(coder, "code_size", 0) - NUM_RESIDUALS
        if not isinstance(coder, DeltaXYZWLHRBBoxCoder) or self.num_velocities not in (0, 2):
            got = f"{type(coder).__name__} of code_size {coder.code_size}"
            expected = "a DeltaXYZWLHRBBoxCoder of code_size 7, or 9 with velocities"
            raise input_error("bbox_coder", expected, got)
        if (loss_velocity is None) != (self.num_velocities == 0):
            expected = "given where, and only where, bbox_coder has code_size 9"
            raise input_error("loss_velocity", expected, loss_velocity)
        self.loss_velocity = None if loss_velocity is None else MODELS.build(loss_velocity)
        self.regression = MODELS.build(regression)
        if not isinstance(self.regression, BoxRegression):
            got = type(self.regression).__name__
            raise input_error("regression", "the config of a BoxRegression", got)
        is_sine = getattr(self.regression, "sin_difference", False)
        if is_sine and not self.use_direction_classifier:
            remedy = "the sine does not distinguish headings flipped by pi"
            name = "regression.sin_difference"
            raise input_error(name, "False without a direction classifier", True, remedy)
        outputs = self.regression.num_outputs + self.num_velocities
        self.conv_reg = nn.Conv2d(self.feat_channels, self.num_anchors * outputs, 1)
        self.yaw_period = math.pi if self.use_direction_classifier else 2 * math.pi
        self.score_decay = score_decay
        self.voting = VarianceVoting(**voting) if voting is not None else None

    def loss(self, x: Any, batch_data_samples: list[Any], **kwargs: Any) -> dict[str, Any]:
        """Return ``loss_cls``, ``loss_dir`` per level, ``loss_bbox`` and the regression's terms."""
        return self.loss_by_feat(*self._score_maps(x), *_targets_of(batch_data_samples))

    def predict(
        self, x: Any, batch_data_samples: list[Any], rescale: bool = False
    ) -> list[InstanceData]:
        """Return the detections; see :meth:`predict_by_feat`."""
        metas = [sample.metainfo for sample in batch_data_samples]
        return self.predict_by_feat(*self._score_maps(x), metas, rescale=rescale)

    def loss_and_predict(
        self, x: Any, batch_data_samples: list[Any], proposal_cfg: Any = None, **kwargs: Any
    ) -> tuple[dict[str, Any], list[InstanceData]]:
        """Return both, as the host's two-stage detectors ask for; arguments as above."""
        maps = self._score_maps(x)
        targets = _targets_of(batch_data_samples)
        losses = self.loss_by_feat(*maps, *targets)
        return losses, self.predict_by_feat(*maps, targets[1], cfg=proposal_cfg)

    def loss_by_feat(
        self,
        cls_scores: list[Tensor],
        bevs: list[Tensor],
        dir_cls_preds: list[Tensor | None],
        batch_gt_instances_3d: list[InstanceData],
        batch_input_metas: list[dict[str, Any]],
        batch_gt_instances_ignore: list[InstanceData] | None = None,
    ) -> dict[str, Any]:
        """Return the losses of :meth:`loss`; arguments as of :meth:`predict_by_feat`."""
        anchors = self.get_anchors(
            [scores.shape[-2:] for scores in cls_scores], batch_input_metas, cls_scores[0].device
        )
        *targets, num_positive, num_negative = self.anchor_target_3d(
            anchors,
            batch_gt_instances_3d,
            batch_input_metas,
            batch_gt_instances_ignore=batch_gt_instances_ignore,
            num_classes=self.num_classes,
            label_channels=self.cls_out_channels if self.use_sigmoid_cls else 1,
            sampling=self.sampling,
        )
        num_samples = num_positive + num_negative if self.sampling else num_positive
        losses: dict[str, Any] = {"loss_cls": [], "loss_dir": []}
        at_positives = []
        with torch.autocast(cls_scores[0].device.type, enabled=False):
            for scores, bev, directions, labels, label_weights, *boxes in zip(
                cls_scores, bevs, dir_cls_preds, *targets, strict=True
            ):
                rows = scores.float().permute(0, 2, 3, 1).reshape(-1, self.num_classes)
                losses["loss_cls"].append(
                    self.loss_cls(
                        rows, labels.reshape(-1), label_weights.reshape(-1), avg_factor=num_samples
                    )
                )
                flat = labels.reshape(-1)
                positive = ((flat >= 0) & (flat < self.num_classes)).nonzero()[:, 0]
                at = [target.flatten(0, 1)[positive] for target in boxes]
                outputs = anchor_outputs(bev, self.conv_reg, positive, self.num_anchors)
                at_positives.append((outputs, at[0], at[1]))
                if directions is not None:
                    rows = directions.float().permute(0, 2, 3, 1).reshape(-1, 2)[positive]
                    losses["loss_dir"].append(
                        self.loss_dir(rows, at[2], at[3], avg_factor=num_samples)
                    )
            outputs, deltas, weights = map(torch.cat, zip(*at_positives, strict=True))
            losses.update(self._regression_losses(outputs, deltas, weights, num_samples))
        if not self.use_direction_classifier:
            del losses["loss_dir"]
        return losses

    def predict_by_feat(
        self,
        cls_scores: list[Tensor],
        bevs: list[Tensor],
        dir_cls_preds: list[Tensor | None],
        batch_input_metas: list[dict[str, Any]],
        cfg: Any = None,
        rescale: bool = False,
    ) -> list[InstanceData]:
        """Return the detections of each frame.

        Args:
            cls_scores: ``(B, A * classes, H, W)`` per level.
            bevs: the neck's maps ``(B, C, H, W)`` per level, where the host has ``bbox_preds``.
            dir_cls_preds: ``(B, A * 2, H, W)`` per level, or None.
            batch_input_metas: with ``box_type_3d``.
            cfg: instead of ``test_cfg``.
            rescale: unused, as in the host.

        Returns:
            Per frame ``bboxes_3d``, ``scores_3d`` and ``labels_3d`` as the host's; ``box_std``
            ``(N, 7)``, m and rad; ``box_covariance`` ``(N, 7, 7)``; ``box_distribution``, a
            :class:`~ebm3d.densities.BoxDistribution` of N boxes. Where voting moved a box, its
            density has moved along. A ``DirectBoxRegression`` that was never trained, as one with a
            checkpoint of the host, has spreads of NaN.
        """
        sizes = [scores.shape[-2:] for scores in cls_scores]
        anchors_of_levels = self.prior_generator.grid_anchors(sizes, device=cls_scores[0].device)
        priors = [anchors.reshape(-1, self.bbox_coder.code_size) for anchors in anchors_of_levels]
        cfg = self.test_cfg if cfg is None else cfg
        results = []
        with torch.autocast(cls_scores[0].device.type, enabled=False):
            for frame, meta in enumerate(batch_input_metas):
                part = slice(frame, frame + 1)
                levels = [
                    self._candidates(s[part], b[part], None if d is None else d[part], p, cfg)
                    for s, b, d, p in zip(cls_scores, bevs, dir_cls_preds, priors, strict=True)
                ]
                outputs, anchors, scores, *rest = map(torch.cat, zip(*levels, strict=True))
                ends = rest[0] if self.use_direction_classifier else None
                outputs, velocities = self._split(outputs)
                density, coding = self.regression.density(outputs), AnchorCoding(anchors[:, :7])
                distribution = BoxDistribution(density, coding, self.yaw_period)
                results.append(
                    select_boxes(
                        distribution,
                        scores if self.use_sigmoid_cls else scores[:, :-1],
                        ends,
                        (self.dir_offset, self.dir_limit_offset),
                        meta["box_type_3d"],
                        cfg,
                        self.score_decay,
                        self.voting,
                        anchors[:, NUM_RESIDUALS:] + velocities,
                    )
                )
        return results

    def _score_maps(self, x: Any) -> tuple[list[Tensor], list[Tensor], list[Tensor | None]]:
        """The host's :meth:`forward`, with the maps themselves where it convolves them."""
        directions = [self.conv_dir_cls(m) if self.use_direction_classifier else None for m in x]
        return [self.conv_cls(bev) for bev in x], list(x), directions

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs of the regression and velocities ``(N, 0 or 2)``."""
        end = outputs.shape[1] - self.num_velocities
        return outputs[:, :end], outputs[:, end:]

    def _regression_losses(
        self, outputs: Tensor, deltas: Tensor, weights: Tensor, num_samples: int
    ) -> dict[str, Tensor]:
        """Losses at the positive anchors; zero, but connected to the parameters, without any."""
        outputs, predicted = self._split(outputs)
        turns = 2 * math.pi / self.yaw_period
        yaw = wrap_to_pi(deltas[:, 6:NUM_RESIDUALS] * turns) / turns
        targets = torch.cat((deltas[:, :6], yaw), dim=1)
        losses = self.regression.loss(outputs, targets)
        code_weight = self.train_cfg.get("code_weight", None)
        if code_weight:
            weights = weights * weights.new_tensor(code_weight)
            if losses.shape[1] == 1 and len(set(code_weight[:NUM_RESIDUALS])) > 1:
                name = type(self.regression).__name__
                expected = f"the same for all residuals, which share one loss in {name}"
                remedy = "scale the loss by loss_weight of the regression"
                raise input_error("train_cfg.code_weight", expected, list(code_weight), remedy)
        total = (losses * weights[:, : losses.shape[1]]).sum() / num_samples
        terms = self.regression.regularizers(outputs, targets)
        if self.loss_velocity is not None:
            known, weights = deltas[:, 7:].isfinite(), weights[:, 7:]
            target, weights = deltas[:, 7:].where(known, predicted.detach()), weights * known
            loss = self.loss_velocity(predicted, target, weights, avg_factor=num_samples)
            terms = {**terms, "velocity": loss}
        return {
            "loss_bbox": self.regression.loss_weight * total,
            **{f"loss_{name}": value for name, value in terms.items()},
        }

    def _candidates(
        self, cls_score: Tensor, bev: Tensor, directions: Tensor | None, priors: Tensor, cfg: Any
    ) -> tuple[Tensor, ...]:
        """Outputs, anchors, scores, and ends if known, of one level's anchors of highest score."""
        logits = cls_score[0].float().permute(1, 2, 0).reshape(-1, self.num_classes)
        scores = logits.sigmoid() if self.use_sigmoid_cls else logits.softmax(-1)
        limit = cfg.get("nms_pre", -1)
        if 0 < limit < len(scores):
            foreground = scores if self.use_sigmoid_cls else scores[:, :-1]
            best = foreground.amax(dim=1).topk(limit)[1]
        else:
            best = torch.arange(len(scores), device=scores.device)
        outputs = anchor_outputs(bev, self.conv_reg, best, self.num_anchors)
        chosen = outputs, priors[best], scores[best]
        if directions is None:
            return chosen
        return *chosen, directions[0].permute(1, 2, 0).reshape(-1, 2)[best].argmax(dim=1)


def _targets_of(samples: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """True boxes, metainfo and ignored boxes of samples."""
    return (
        [sample.gt_instances_3d for sample in samples],
        [sample.metainfo for sample in samples],
        [sample.get("ignored_instances", None) for sample in samples],
    )

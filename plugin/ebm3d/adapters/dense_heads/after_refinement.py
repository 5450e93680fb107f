"""What follows refinement: fused scores, and suppression of boxes that came through a looser one.

N boxes of a frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmdet3d.models.layers import box3d_multiclass_nms
from mmdet3d.structures import xywhr2xyxyr
from mmengine.structures import InstanceData

from ebm3d.adapters.score_features import score_features
from ebm3d.errors import check_count, input_error, is_number
from ebm3d.evaluation.score_fusion import ScoreFusion, read_score_fusion

INITIAL_SCORES = "initial_scores_3d"
_OF_FUSION = {"features", "weights", "alone"}
_OF_NMS = ("nms_thr", "max_num", "use_rotate_nms")


def build_fusion(config: str | Mapping[str, Any] | None) -> ScoreFusion | None:
    """Build a fusion of scores.

    Args:
        config: a file that ``tools/test.py --fit-fusion`` wrote, the arguments of
            :class:`ebm3d.evaluation.score_fusion.ScoreFusion`, or None.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no fusion.
    """
    if config is None:
        return None
    if isinstance(config, str):
        return read_score_fusion(config)
    if not isinstance(config, Mapping) or not {"features", "weights"} <= set(config) <= _OF_FUSION:
        expected = f"a file, or a dict of {', '.join(sorted(_OF_FUSION))}"
        raise input_error("score_fusion", expected, repr(config), "alone may be left out")
    return ScoreFusion(**config)


def fuse_scores(result: InstanceData, fusion: ScoreFusion) -> InstanceData:
    """Replace the scores of a frame by the probability that the box fits.

    Args:
        result: refined; changed in place: the scores it came with become ``initial_scores_3d``.
        fusion: of the features that the refinement head gives.

    Returns:
        ``result``.

    Raises:
        ValueError: if the scores are not the detector's any more: what lowered them by the spread
            of the box (``score_decay``) would count twice, and weights were fitted to the others.
    """
    if INITIAL_SCORES in result:
        remedy = "score_decay=0; fuse the feature 'uncertainty' to the same end"
        raise input_error("scores to be fused", "the detector's", "those of a score_decay", remedy)
    scores = result.scores_3d
    fused = fusion(scores, score_features(result, fusion.features))
    result.set_field(scores, INITIAL_SCORES)
    result.scores_3d = fused
    return result


def check_wider(dense_head: Any, wider: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the settings of a dense head's suppression while candidates are wanted.

    Args:
        dense_head: of the host.
        wider: ``nms_thr`` and ``max_num``, or None for no refinement before NMS.

    Raises:
        ValueError: for other settings, values out of range, or a head without a suppression by
            ``test_cfg``.
    """
    if wider is None:
        return None
    if not isinstance(wider, Mapping) or set(wider) != {"nms_thr", "max_num"}:
        got = sorted(wider) if isinstance(wider, Mapping) else repr(wider)
        raise input_error("refine_before_nms", "a dict of nms_thr and max_num", got)
    if not (is_number(wider["nms_thr"]) and 0 < wider["nms_thr"] <= 1):
        expected = "nms_thr in (0, 1] and max_num of at least 1"
        raise input_error("refine_before_nms", expected, dict(wider))
    check_count("refine_before_nms.max_num", wider["max_num"])
    config = getattr(dense_head, "test_cfg", None) or {}
    missing = [name for name in _OF_NMS if name not in config]
    if missing:
        raise input_error(
            "dense_head",
            f"one whose test_cfg has {', '.join(_OF_NMS)}, for refine_before_nms",
            f"{type(dense_head).__name__} without {', '.join(missing)}",
            "refine after NMS: refine_before_nms=None",
        )
    return dict(wider)


@contextmanager
def suppressing_less(dense_head: Any, wider: Mapping[str, Any] | None) -> Iterator[None]:
    """Let a dense head give more candidates within a block.

    Args:
        dense_head: its ``test_cfg`` is another one meanwhile.
        wider: of :func:`check_wider`; None changes nothing.
    """
    if wider is None:
        yield
        return
    own = dense_head.test_cfg
    dense_head.test_cfg = type(own)({**own, **wider})
    try:
        yield
    finally:
        dense_head.test_cfg = own


def suppress(result: InstanceData, config: Any) -> InstanceData:
    """Suppress overlapping boxes class by class, as the host's dense heads do.

    Args:
        result: N boxes, any fields; all of them follow.
        config: with the host's ``nms_thr``, ``max_num`` and ``use_rotate_nms``. Its ``score_thr``
            is not applied again: it is one of the detector's scores.

    Returns:
        At most ``max_num`` boxes, of the highest scores.
    """
    number, labels = len(result.scores_3d), result.labels_3d
    if number == 0:
        return result
    classes = int(labels.max()) + 2  # and a column of the background
    scores = result.scores_3d.new_full((number, classes), float("-inf"))
    rows = torch.arange(number, device=scores.device)
    scores[rows, labels] = result.scores_3d
    kept = box3d_multiclass_nms(
        result.bboxes_3d.tensor,
        xywhr2xyxyr(result.bboxes_3d.bev),
        scores,
        float("-inf"),
        config.max_num,
        config,
        rows,  # comes back selected
    )[3]
    return result[kept.long()]

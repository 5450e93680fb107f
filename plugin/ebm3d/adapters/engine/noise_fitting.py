"""Noise scales of a refinement head from the errors of the detector it is put on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.runner import Runner
from torch import Tensor

from ebm3d.adapters.checkpoints import check_file, load_weights
from ebm3d.adapters.engine.settings import load_settings
from ebm3d.adapters.engine.testing import switch_refinement_off
from ebm3d.boxes.iou import iou_bev
from ebm3d.errors import input_error
from ebm3d.noise import fit_noise_stds


def fit_noise(
    config: str | Path,
    checkpoint: str | Path,
    *,
    split: str = "train",
    min_iou: float = 0.3,
    cfg_options: dict[str, Any] | None = None,
) -> dict[str, list[float]]:
    """Run a detector over a split, match its boxes, and fit the noise of each class.

    Each detection, by descending score, is matched to the unmatched true box of its class with the
    largest BEV IoU, from ``min_iou`` on.

    Args:
        config: config of a detector, with a refinement head or without.
        checkpoint: what training saved.
        split: "train" (without augmentation) or "val". A detector's errors on frames it was
            trained on are smaller than elsewhere; held-out frames give the better scales.
        min_iou: smallest overlap seen from above of a matched pair.
        cfg_options: values of the config by dotted key.

    Returns:
        Standard deviations per class name, see :func:`ebm3d.noise.fit_noise_stds`, nine where
        boxes have velocities; a class without a single match is left out.

    Raises:
        ValueError: for another split or overlap, if the checkpoint lacks parameters of the
            detector, or if none of its boxes can be matched.
    """
    check_file(checkpoint)
    cfg = load_settings(config, work_dir=Path("work_dirs") / "fit_noise", cfg_options=cfg_options)
    switch_refinement_off(cfg)
    if split not in ("train", "val"):
        raise input_error("split", "'train' or 'val'", repr(split))
    if not 0 < min_iou <= 1:
        raise input_error("min_iou", "in (0, 1]", min_iou)
    if split == "train":
        trained = cfg.train_dataloader.dataset
        while "ann_file" not in trained:  # wrappers such as RepeatDataset
            trained = trained.dataset
        cfg.val_dataloader.dataset.ann_file = trained.ann_file
    cfg.test_dataloader = cfg.val_dataloader
    runner = Runner.from_cfg(cfg)
    load_weights(runner.model, checkpoint, cfg, refine=False)
    runner.model.eval()
    loader = runner.build_dataloader(cfg.test_dataloader)
    pairs: dict[int, list[tuple[Tensor, Tensor]]] = {}
    for batch in loader:
        with torch.no_grad():
            results = runner.model.test_step(batch)
        for result in results:
            _collect(result, pairs, min_iou)
    if not pairs:
        raise input_error(
            "checkpoint",
            "of a detector that finds some of the split's boxes",
            f"{checkpoint}, none of whose boxes overlaps a true one by {min_iou}",
            "train it longer, or lower min_iou",
        )
    names = loader.dataset.metainfo["classes"]
    stds = {}
    for label, class_pairs in sorted(pairs.items()):
        true, detected = (torch.cat(boxes) for boxes in zip(*class_pairs, strict=True))
        stds[names[label]] = [round(float(v), 4) for v in fit_noise_stds(true, detected)]
    return stds


def _collect(result: Any, pairs: dict[int, list[tuple[Tensor, Tensor]]], min_iou: float) -> None:
    """Add the matched (true, detected) boxes of one frame, by class."""
    true = torch.as_tensor(result.eval_ann_info["gt_bboxes_3d"].tensor).double()
    labels = torch.as_tensor(result.eval_ann_info["gt_labels_3d"])
    predictions = result.pred_instances_3d
    for label in labels.unique().tolist():
        if label < 0:
            continue
        class_boxes = true[labels == label]
        chosen = (predictions.labels_3d == label).nonzero()[:, 0]
        chosen = chosen[predictions.scores_3d[chosen].argsort(descending=True)]
        detected = predictions.bboxes_3d.tensor[chosen, : true.shape[1]].double().cpu()
        class_boxes = class_boxes[:, : detected.shape[1]]  # velocities where both have them
        from_above = detected[:, :7].numpy(), class_boxes[:, :7].numpy()
        overlap = torch.from_numpy(iou_bev(*from_above))
        for row in range(len(detected)):
            best = int(overlap[row].argmax())
            if overlap[row, best] >= min_iou:
                pairs.setdefault(label, []).append(
                    (class_boxes[best : best + 1], detected[row : row + 1])
                )
                overlap[:, best] = -1

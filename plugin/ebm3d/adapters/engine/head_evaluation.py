"""Refinement heads of one frozen detector, evaluated on the same boxes of the same frames.

P pairs of a true box and the detector's box that found it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from mmdet3d.registry import METRICS
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from ebm3d.adapters.dense_heads.after_refinement import suppressing_less
from ebm3d.adapters.dense_heads.refined_dense_head import first_map, take_points, with_refined
from ebm3d.adapters.metrics.calibration import measure_pairs
from ebm3d.boxes.iou import iou_bev
from ebm3d.densities import BoxDistribution
from ebm3d.devices import clock, device_of, seeded_generator
from ebm3d.energy import ImportanceSamples, sample_posterior
from ebm3d.evaluation.calibration import CalibrationPairs, energy_scores
from ebm3d.evaluation.localization import wrap
from ebm3d.evaluation.temperature import fit_temperature
from ebm3d.records import TensorRecord

MIN_IOU = 0.5
"""Smallest overlap, seen from above, of a true box and the detected box it is paired with."""
NUM_POSTERIOR_SAMPLES = 512
NUM_SCORE_SAMPLES = 64
FloatArray = NDArray[np.float64]
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class DetectedFrame:
    """What the detector gives of one frame, for any number of heads.

    Attributes:
        frame_id: name of the frame.
        bev: ``(1, C, H, W)``.
        points: its cloud, one or none.
        result: boxes, scores and labels of the dense head.
        truths: ``(G, 7)`` true boxes.
        pairs: ``(P, 2)`` rows of ``result`` and of ``truths``, on their device.
        meta: what the metric needs to know of the frame.
        seconds: of :func:`ebm3d.devices.clock` for the detector, from voxels to boxes.
        candidates: what a looser suppression leaves, where it was asked for.
    """

    frame_id: str
    bev: Tensor
    points: list[Tensor]
    result: InstanceData
    truths: Tensor
    pairs: Tensor
    meta: dict[str, Any]
    seconds: float
    candidates: InstanceData | None = None


@dataclass
class HeadRun:
    """What one head made of the frames, on the CPU wherever it was made.

    Attributes:
        samples: predictions as the metric takes them.
        densities: of the paired boxes, frame by frame: of a regression, or of an energy with its
            f at the true boxes; empty for a head without a density.
        boxes: ``(P, 7)`` refined boxes of the pairs, frame by frame.
        truths: ``(P, 7)``.
        frame_ids: of the pairs.
        seconds: of :func:`ebm3d.devices.clock`, of each frame.
    """

    samples: list[dict[str, Any]] = field(default_factory=list)
    densities: list[TensorRecord] = field(default_factory=list)
    f_truths: list[Tensor] = field(default_factory=list)
    boxes: list[Tensor] = field(default_factory=list)
    truths: list[Tensor] = field(default_factory=list)
    frame_ids: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@torch.no_grad()
def detect_frames(
    model: Any, loader: Any, wider: Mapping[str, Any] | None = None
) -> Iterator[DetectedFrame]:
    """Run the detector alone, frame after frame.

    Args:
        model: a detector with a ``RefinedDenseHead``, in evaluation mode.
        loader: of a test split whose samples hold ``eval_ann_info``; batches of one frame.
        wider: ``nms_thr`` and ``max_num`` of ``candidates``; None for none.

    Yields:
        The frames, with the detector's boxes paired to the true ones: in the order of scores, each
        box takes the free true box of its class that it overlaps most from above, from
        ``MIN_IOU`` on.
    """
    device = device_of(model)
    for batch in loader:
        start = clock(device)
        data = model.data_preprocessor(batch, False)
        samples = data["data_samples"]
        maps = model.extract_feat(data["inputs"])
        points = take_points(samples)
        result = model.bbox_head.dense_head.predict(maps, samples)[0]
        seconds = clock(device) - start
        candidates = None
        if wider is not None:
            with suppressing_less(model.bbox_head.dense_head, wider):
                candidates = model.bbox_head.dense_head.predict(maps, samples)[0]
        info = samples[0].eval_ann_info
        truths = torch.as_tensor(info["gt_bboxes_3d"].tensor[:, :7]).to(result.scores_3d)
        labels = torch.as_tensor(info["gt_labels_3d"])
        yield DetectedFrame(
            Path(samples[0].lidar_path).stem,
            first_map(maps),
            points,
            result,
            truths,
            _pair(result, truths, labels),
            {"lidar_path": samples[0].lidar_path},
            seconds,
            candidates,
        )


def run_head(head: Any, frame: DetectedFrame, run: HeadRun, *, with_density: bool = True) -> None:
    """Refine the boxes of a frame, and take the densities of its pairs.

    Args:
        head: a refinement head, on the device of the frame.
        frame: of :func:`detect_frames`.
        run: receives the results.
        with_density: whether densities are wanted.
    """
    result = frame.result
    device = frame.bev.device
    start = clock(device)
    refined = head.refine(
        frame.bev,
        frame.points,
        [result.bboxes_3d.tensor],
        [result.labels_3d],
        [result.scores_3d],
    )[0]
    run.seconds.append(clock(device) - start)
    density = refined.pop("box_distribution", None)
    scores = {"scores_3d": refined["scores_3d"]} if "scores_3d" in refined else {}
    shown = with_refined(result.clone(), {"boxes": refined["boxes"], **scores})
    run.samples.append({**frame.meta, "pred_instances_3d": shown.to(_CPU)})
    found, true = frame.pairs.unbind(1)
    boxes, truths = refined["boxes"][found], frame.truths[true]
    run.boxes.append(boxes.cpu())
    run.truths.append(truths.cpu())
    run.frame_ids += [frame.frame_id] * len(found)
    if not with_density:
        return
    if density is not None:
        run.densities.append(density[found].to(_CPU))
    elif "f_refined" in refined and head.criterion.is_density:
        labels = result.labels_3d[found]
        energy = head.bind(frame.bev, frame.points, [boxes], [labels])
        posterior = sample_posterior(
            energy,
            boxes,
            labels,
            head.noise.base,
            NUM_POSTERIOR_SAMPLES,
            generator=seeded_generator(device, 0),
        )
        run.densities.append(posterior.to(_CPU))
        with torch.no_grad():
            run.f_truths.append(energy(_turned_to(boxes, truths)).double().cpu())


def kitti_figures(
    run: HeadRun, evaluator: Mapping[str, Any], meta: Any, thresholds: Sequence[float]
) -> dict[str, Any]:
    """Evaluate a run by the protocol, before and after refinement.

    Args:
        run: of one head.
        evaluator: config of the ``EBM3DKittiMetric``.
        meta: ``metainfo`` of the data set.
        thresholds: of the overlap.

    Returns:
        The tree of the metric: ``before``, ``after``, ``comparison``.
    """
    with TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        metric: Any = METRICS.build(
            {**evaluator, "iou_thresholds": list(thresholds), "json_file": str(file)}
        )
        metric.dataset_meta = meta
        metric.process(None, run.samples)
        metric.evaluate(len(run.samples))
        tree: dict[str, Any] = json.loads(file.read_text())
    return tree


def calibration_pairs(run: HeadRun, temperature: Sequence[float] | None) -> CalibrationPairs | None:
    """Evaluate the densities of a run at the true boxes.

    Args:
        run: of one head.
        temperature: seven factors of a regression's spread, or one temperature of an energy;
            ``None`` leaves the densities as they are.

    Returns:
        The pairs, or ``None`` for a head without a density.
    """
    if not run.densities:
        return None
    truths = torch.cat(run.truths).double()
    boxes = torch.cat(run.boxes).double().numpy()
    joined: Any = TensorRecord.cat(run.densities).to(torch.float64)
    if isinstance(joined, BoxDistribution):
        if temperature is not None:
            joined = joined.rescaled(torch.tensor(temperature, dtype=torch.float64))
        return measure_pairs(joined, boxes, truths.numpy(), run.frame_ids, NUM_SCORE_SAMPLES)
    posterior: ImportanceSamples = joined
    if temperature is not None:
        posterior = posterior.tempered(temperature[0])
    samples = posterior.sample(NUM_SCORE_SAMPLES, seeded_generator(_CPU, 0))
    errors = boxes - truths.numpy()
    errors[:, 6] = wrap(errors[:, 6], np.pi)
    turned = _turned_to(torch.cat(run.boxes), truths)
    return CalibrationPairs(
        log_prob=posterior.log_prob(torch.cat(run.f_truths)).numpy(),
        pit=posterior.cdf(turned).numpy(),
        squared_mahalanobis=posterior.squared_mahalanobis(turned).numpy(),
        std=posterior.std.numpy(),
        errors=errors,
        energy_scores=energy_scores(samples.numpy(), truths.numpy(), yaw_period=np.pi),
        entropies=posterior.entropy.numpy(),
    )


def fit_run_temperature(run: HeadRun) -> list[float] | None:
    """Fit what :func:`calibration_pairs` takes as ``temperature``, on a calibration split.

    Args:
        run: of one head.

    Returns:
        Seven factors, one temperature, or ``None`` for a head without a density.
    """
    if not run.densities:
        return None
    truths = torch.cat(run.truths).double()
    joined: Any = TensorRecord.cat(run.densities).to(torch.float64)
    if isinstance(joined, BoxDistribution):
        known = torch.isfinite(joined.std).all(dim=1)
        distribution, boxes = joined[known], truths[known]

        def nll(factors: FloatArray) -> float:
            scaled = distribution.rescaled(torch.from_numpy(factors))
            return float(-scaled.log_prob(boxes).mean())

        with torch.no_grad():
            return list(fit_temperature(nll, len(boxes)).factors)
    f = torch.cat(run.f_truths)

    def energy_nll(log_temperature: float) -> float:
        return float(-joined.tempered(float(np.exp(log_temperature))).log_prob(f).mean())

    found = minimize_scalar(energy_nll, bounds=(-3.0, 3.0), method="bounded")
    return [float(np.exp(found.x))]


def number_of_parameters(head: nn.Module) -> int:
    """Return how many numbers a head learns."""
    return sum(p.numel() for p in head.parameters() if p.requires_grad)


def _turned_to(boxes: Tensor, truths: Tensor) -> Tensor:
    """True boxes with front and rear as in ``boxes``: densities of refinement are of the axis."""
    half_turns = torch.round((truths[:, 6] - boxes[:, 6]) / math.pi)
    yaw = truths[:, 6] - half_turns * math.pi
    return torch.cat((truths[:, :6], yaw[:, None].to(truths)), dim=1)


def _pair(result: InstanceData, truths: Tensor, labels: Tensor) -> Tensor:
    """Rows of detections and of true boxes that belong together, ``(P, 2)``."""
    boxes = result.bboxes_3d.tensor[:, :7]
    overlap = torch.from_numpy(iou_bev(boxes.double().cpu().numpy(), truths.double().cpu().numpy()))
    overlap[result.labels_3d.cpu()[:, None] != labels[None]] = 0
    pairs = []
    for row in result.scores_3d.argsort(descending=True).tolist():
        if overlap.shape[1] == 0:
            break
        best = int(overlap[row].argmax())
        if overlap[row, best] >= MIN_IOU:
            pairs.append((row, best))
            overlap[:, best] = 0
    return torch.tensor(pairs, dtype=torch.int64, device=boxes.device).reshape(-1, 2)

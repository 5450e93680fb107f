"""One frame through a trained model, with boxes before and after refinement and f around them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmdet3d.registry import MODELS
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from torch import Tensor

from ebm3d.adapters.checkpoints import check_file, load_weights
from ebm3d.adapters.engine.settings import load_settings
from ebm3d.adapters.frames import FrameSource
from ebm3d.adapters.parts import features_of, part_of
from ebm3d.adapters.refinement_heads import EBMRefinementHead
from ebm3d.datasets import CloudLayout
from ebm3d.visualization import RefinedFrame


@dataclass(frozen=True)
class InferredFrame:
    """What a model says about one frame.

    Attributes:
        frame: points, boxes before and after refinement, scores, f, true boxes if known.
        energy: from a row of ``frame.refined`` to f near that box, a callable from ``(S, D)`` to
            ``(S,)`` for boxes on any device; ``None`` for a model without an energy. f is the
            model's exactly as long as a box stays within ``max_box_shift`` of that row's box.
        energy_columns: D, 9 for an f of the velocity too.
    """

    frame: RefinedFrame
    energy: Callable[[int], Callable[[Tensor], Tensor]] | None
    energy_columns: int = 7


class FrameInference:
    """A model and its test pipeline, built once and applied to frame after frame.

    Args:
        config: a config file, or the name of one that comes with the package.
        checkpoint: what training saved; it must hold every parameter of the model.
        device: where the model runs; None for CUDA where there is CUDA.
        cfg_options: values of the config by dotted key.
        cloud_layout: of cloud files; see :func:`ebm3d.datasets.read_cloud`.

    Raises:
        FileNotFoundError: if there is no such config or checkpoint.
        ValueError: if the checkpoint belongs to another model, see
            :func:`ebm3d.adapters.checkpoints.load_weights`.
    """

    def __init__(
        self,
        config: str | Path,
        checkpoint: str | Path,
        *,
        device: str | None = None,
        cfg_options: dict[str, Any] | None = None,
        cloud_layout: CloudLayout | None = None,
    ) -> None:
        check_file(checkpoint)
        cfg = load_settings(config, cfg_options=cfg_options)
        init_default_scope(cfg.get("default_scope", "mmdet3d"))
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model = MODELS.build(cfg.model)
        refine = part_of(cfg.model, "bbox_head").get("refine", True)
        load_weights(self.model, checkpoint, cfg, refine=refine)
        self.model.to(self.device).eval()
        self._frames = FrameSource(cfg.test_dataloader.dataset, cloud_layout)
        self._classes = tuple(cfg.test_dataloader.dataset.metainfo["classes"])

    def frame_ids(self) -> list[str]:
        """Return the frames of the config's test data, in its order."""
        return self._frames.ids()

    def __call__(self, source: str | Path) -> InferredFrame:
        """Run the model on one frame.

        Args:
            source: a frame of the config's test data: its id, such as ``"000008"`` or nuScenes'
                sample token, or its cloud's name; or a file that :func:`ebm3d.datasets.read_cloud`
                reads, without sweeps before it.

        Returns:
            Boxes before and after refinement; equal, with f NaN, where the model refines nothing.

        Raises:
            DataError: if the cloud is missing or cannot be read.
            ValueError: if the test data has no such frame.
        """
        frame_id, data, true = self._frames.load(source)
        with torch.no_grad():
            batch = self.model.data_preprocessor(pseudo_collate([data]), False)
            features = features_of(self.model, batch["inputs"], batch["data_samples"])
            dense = part_of(self.model, "bbox_head")
            result = dense.predict(features, batch["data_samples"])[0].to("cpu")
        refined, labels = result.bboxes_3d.tensor, result.labels_3d.long()
        blank = torch.full((len(refined),), torch.nan)
        points = batch["inputs"]["points"][0].cpu().numpy()
        lag = self._frames.lag_column
        frame = RefinedFrame(
            frame_id=frame_id,
            points=points,
            initial=result.get("initial_bboxes_3d", result.bboxes_3d).tensor.numpy(),
            refined=refined.numpy(),
            scores=result.scores_3d.numpy(),
            names=tuple(self._classes[label] for label in labels),
            f_initial=result.get("f_initial", blank).numpy(),
            f_refined=result.get("f_refined", blank).numpy(),
            ground_truth=None if true is None else true[:, : refined.shape[1]],
            lags=None if lag is None else points[:, lag],
            forward=self._frames.forward,
        )
        head = getattr(dense, "refinement_head", None)
        if not isinstance(head, EBMRefinementHead):
            return InferredFrame(frame, None)
        bev, clouds, columns = features.maps[0], features.points, head.box_columns

        def energy(row: int) -> Callable[[Tensor], Tensor]:
            box, label = refined[row : row + 1, :columns].to(bev), labels[row : row + 1]
            f = head.make_energy(bev, clouds, [box], [label.to(bev.device)])
            return lambda variants: f(variants.to(box)[None])[0].to(variants.device)

        return InferredFrame(frame, energy, columns)

"""All pictures of one inferred frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ebm3d.adapters.inference import InferredFrame
from ebm3d.visualization import (
    RenderingError,
    energy_landscape,
    scene_of_frame,
    write_bev_picture,
    write_energy_picture,
    write_ply,
    write_rendering,
)


@dataclass(frozen=True)
class WrittenPictures:
    """What :func:`write_pictures` did.

    Attributes:
        files: what was written.
        problems: why a picture is missing, in words for the user; empty if none is.
    """

    files: tuple[Path, ...]
    problems: tuple[str, ...]


def write_pictures(
    inferred: InferredFrame, out: Path, *, min_score: float = 0.3
) -> WrittenPictures:
    """Draw a frame from above, in perspective, f around its most moved box, and write a PLY file.

    Args:
        inferred: of :class:`ebm3d.adapters.inference.FrameInference`.
        out: folder of the files, made if absent.
        min_score: detections below are left out.

    Returns:
        The files, and why others are missing: the perspective picture where Open3D cannot render,
        f where no drawn box was refined or the model has no f.
    """
    out.mkdir(parents=True, exist_ok=True)
    frame, files, problems = inferred.frame, [], []
    name = frame.frame_id
    write_bev_picture(out / f"{name}_bev.png", frame, min_score=min_score)
    files.append(out / f"{name}_bev.png")
    scene = scene_of_frame(frame, min_score=min_score)
    write_ply(out / f"{name}.ply", scene)
    files.append(out / f"{name}.ply")
    moved = [row for row in frame.most_changed(len(frame.scores)) if frame.scores[row] >= min_score]
    if inferred.energy is not None and moved:
        box = torch.as_tensor(frame.refined[moved[0]])
        landscape = energy_landscape(inferred.energy(moved[0]), box)
        write_energy_picture(out / f"{name}_energy.png", landscape, frame, moved[0])
        files.append(out / f"{name}_energy.png")
    elif inferred.energy is None:
        problems.append(f"The model has no f to draw around the boxes of frame {name}.")
    else:
        problems.append(f"No refined box of frame {name} has a score of {min_score} or more.")
    try:
        write_rendering(out / f"{name}_3d.png", scene, f"Frame {name}")
        files.append(out / f"{name}_3d.png")
    except RenderingError as error:
        problems.append(f"{error} The same scene is in {out / name}.ply.")
    return WrittenPictures(tuple(files), tuple(problems))

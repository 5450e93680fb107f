"""All pictures of one inferred frame."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import torch

from ebm3d.adapters.inference import InferredFrame
from ebm3d.errors import input_error
from ebm3d.visualization import (
    MIN_SCORE,
    RenderingError,
    energy_landscape,
    scene_of_frame,
    write_bev_picture,
    write_energy_picture,
    write_ply,
    write_rendering,
)

_OTHER = "give another folder"


class WrittenPictures(NamedTuple):
    """The files, and for the user why others are missing."""

    files: tuple[Path, ...]
    problems: tuple[str, ...]


def make_folder(out: Path) -> None:
    """Make a folder of results with its parents, if absent.

    Raises:
        ValueError: if a file is in its place or above it, or it cannot be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK):
            raise PermissionError(f"no permission to write into {out}")
    except (FileExistsError, NotADirectoryError) as error:
        file = next(path for path in (out, *out.parents) if path.exists())
        raise input_error("--out", "a folder", f"{out}: {file} is a file", _OTHER) from error
    except OSError as error:
        raise input_error("--out", "a folder to write into", f"{out}: {error}", _OTHER) from error


def write_pictures(
    inferred: InferredFrame, out: Path, *, min_score: float = MIN_SCORE
) -> WrittenPictures:
    """Draw a frame from above, in perspective, f around its most moved box, and write a PLY file.

    The perspective picture is missing where Open3D cannot render, that of f where no drawn box was
    refined or the model has no f.

    Args:
        inferred: of :class:`ebm3d.adapters.inference.FrameInference`.
        out: folder of the files, made if absent.
        min_score: detections below are left out.

    Raises:
        ValueError: if there can be no such folder.
    """
    make_folder(out)
    frame, problems = inferred.frame, []
    name = frame.frame_id
    files = [out / f"{name}_bev.png", out / f"{name}.ply"]
    scene = scene_of_frame(frame, min_score=min_score)
    write_bev_picture(files[0], frame, min_score=min_score)
    write_ply(files[1], scene, frame.forward)
    moved = [row for row in frame.most_changed(len(frame.scores)) if frame.scores[row] >= min_score]
    if inferred.energy is None:
        problems.append(f"The model has no f to draw around the boxes of frame {name}.")
    elif not moved:
        problems.append(f"No refined box of frame {name} has a score of {min_score} or more.")
    else:
        box = torch.as_tensor(frame.refined[moved[0], : inferred.energy_columns])
        landscape = energy_landscape(inferred.energy(moved[0]), box)
        files.append(out / f"{name}_energy.png")
        write_energy_picture(files[-1], landscape, frame, moved[0])
    try:
        write_rendering(out / f"{name}_3d.png", frame, min_score=min_score)
        files.append(out / f"{name}_3d.png")
    except RenderingError as error:
        problems.append(f"{error} The same scene is in {files[1]}.")
    return WrittenPictures(tuple(files), tuple(problems))

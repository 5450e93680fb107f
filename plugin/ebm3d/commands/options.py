"""Options that several sub-commands have, and what follows from them."""

from __future__ import annotations

import argparse
import math
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

CLOUDS = (
    "folder of clouds named by frame: KITTI's .bin, nuScenes' .pcd.bin, .npy, .ply or .pcd, with "
    "or without intensity; LiDAR frame"
)
DETECTIONS = (
    "result files: folder of KITTI's text files, OpenPCDet's result.pkl, mmdet3d's pickle or JSON, "
    "submission to nuScenes"
)
LABELS = (
    "folder of label files, KITTI's or of lines 'x y z dx dy dz yaw class' in the LiDAR frame, or "
    "info file of OpenPCDet"
)


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--calib``, ``--map`` and ``--device``."""
    add = parser.add_argument
    text = "folder of KITTI calibration files, where boxes are in the camera frame"
    add("--calib", type=Path, metavar="DIR", help=text)
    text = "class names of the files that stand for others, such as Van=Car"
    add("--map", nargs="+", default=[], metavar="A=B", help=text)
    text = "cpu, cuda or cuda:1 (default: cuda where there is one)"
    add("--device", metavar="NAME", help=text)


def add_format_options(parser: argparse.ArgumentParser) -> None:
    """Add what some formats of results need beside their files."""
    add = parser.add_argument
    text = "classes of the label numbers of mmdet3d's files, in the order of the detector's config"
    add("--class-names", nargs="+", default=[], metavar="NAME", help=text)
    text = "frame ids in the order of the results, one a line, where a file names none (mmdet3d)"
    add("--frame-ids", type=Path, metavar="FILE", help=text)
    text = "data root, tables or info file, for the poses of a nuScenes submission"
    add("--nuscenes", type=Path, metavar="DIR", help=text)


def add_labelled_options(parser: argparse.ArgumentParser, out: str) -> None:
    """Add what :func:`ebm3d.commands.labelled.read_labelled` reads; ``out`` is help for --out."""
    add = parser.add_argument
    add("detections", type=Path, metavar="DETECTIONS", help=DETECTIONS)
    add("labels", type=Path, metavar="LABELS", help=LABELS)
    add("clouds", type=Path, metavar="CLOUDS", help=CLOUDS)
    add("--out", type=Path, required=True, metavar="FILE", help=out)
    text = "of ebm3d train-energy or fit-trust (default: the one of ebm3d, trained on simulation)"
    add("--energy", type=Path, metavar="FILE", help=text)
    add_data_options(parser)
    add_format_options(parser)


def add_report_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``, ``--replicates`` and ``--distance-bands``."""
    add = parser.add_argument
    add("--json", type=Path, metavar="FILE", help="file for all figures")
    add("--replicates", type=int, default=1000, help="of the bootstrap (default: %(default)s)")
    text = "borders in meters, 'inf' for none (default: 0 20 40 inf)"
    add("--distance-bands", type=float, nargs="+", metavar="M", help=text)


def check_report_options(options: argparse.Namespace) -> None:
    """Check the options of :func:`add_report_options`, and set borders that are left out."""
    if options.replicates < 1:
        options.usage_error(f"--replicates must be at least 1, but got {options.replicates}")
    from ebm3d.evaluation.localization import DISTANCE_BANDS

    options.distance_bands = options.distance_bands or DISTANCE_BANDS
    if any(map(math.isnan, options.distance_bands)):
        options.usage_error("--distance-bands must be numbers")
    if options.json is not None:
        check_output_file("--json", options.json, options)


def format_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of :func:`add_format_options` as arguments of ``read_results``."""
    return {
        "class_names": options.class_names,
        "ids": options.frame_ids,
        "nuscenes": options.nuscenes,
    }


def name_map(options: argparse.Namespace) -> dict[str, str]:
    """Return the names of ``--map``."""
    names: dict[str, str] = {}
    for entry in options.map:
        name, _, other = entry.partition("=")
        if not (name and other) or "=" in other:
            options.usage_error(f"--map takes A=B, such as Van=Car, but got {entry}")
        if names.setdefault(name, other) != other:
            options.usage_error(f"--map takes each name once, but got {name}={names[name]} {entry}")
    return names


def find_device(name: str | None) -> torch.device:
    """Return the device of ``--device``; raise if it is not there."""
    import torch

    from ebm3d.errors import input_error

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type not in ("cpu", "cuda"):
        raise input_error("--device", "cpu, cuda or cuda:N", name)
    if device.type == "cuda" and (device.index or 0) >= count:
        got = f"{name}, where torch finds {count} CUDA devices"
        raise input_error("--device", "a device of this machine", got, "leave it out, or cpu")
    return device


def check_output_file(name: str, path: Path, options: argparse.Namespace) -> None:
    """Raise before any work if a file cannot be written, or is one of the input.

    An energy may be replaced by what is made of it.
    """
    from ebm3d.datasets.atomic import check_writable
    from ebm3d.datasets.point_clouds import cloud_suffix
    from ebm3d.errors import input_error

    check_writable(name, path)
    outputs = ("out", "refined", "json", "plots", "energy", "init")
    inputs = [v for k, v in vars(options).items() if isinstance(v, Path) and k not in outputs]
    is_data = path.exists() and (path.suffix == ".txt" or bool(cloud_suffix(path)))
    places = [path.resolve(), *([path.resolve().parent] if is_data else [])]
    if any(place.resolve() in places for place in inputs):
        raise input_error(name, "another file than those that are read", path, "choose another")


def check_new_folder(name: str, path: Path, *inputs: Path) -> None:
    """Raise before any work if results cannot be written to a folder."""
    from ebm3d.datasets.atomic import check_writable
    from ebm3d.errors import input_error

    if path.resolve() in [place.resolve() for place in inputs]:
        raise input_error(name, "another folder than the input", path, "choose another")
    check_writable(name, path, "folder")
    if path.exists() and any(path.iterdir()):
        raise input_error(name, "a new or empty folder", path, "remove it or choose another")


def check_drawing(name: str) -> None:
    """Raise if pictures cannot be drawn."""
    if find_spec("matplotlib") is None:
        from ebm3d.errors import input_error

        remedy = 'pip install "ebm3d[visualization]"'
        raise input_error(name, "left out where matplotlib is not installed", "it", remedy)

"""Derive the numbers that the simulator draws its scenes from, out of official KITTI labels.

The numbers (means, covariances, quantiles, shares; no label and no frame) are written as JSON to
``plugin/ebm3d/simulation/statistics.json``, which is what the package ships:

    python tools/derive_simulation_statistics.py ../shared/kitti_labels/labels_and_calib.tar.gz
"""

from __future__ import annotations

import argparse
import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np

CLASSES = ("Car", "Van", "Truck", "Pedestrian", "Cyclist")
OUTPUT = Path(__file__).parents[1] / "plugin" / "ebm3d" / "simulation" / "statistics.json"
FLOWS = {"with": -np.pi / 2, "against": np.pi / 2}
FLOW_WIDTH = np.pi / 8  # rad; a heading within this of the road axis follows the road
QUANTILES = np.linspace(0.02, 0.98, 25)
MAX_FORWARD = 70.0  # m; beyond it labels are patchy


def read_archive(archive: Path) -> tuple[list[list[tuple[str, np.ndarray]]], dict[str, float]]:
    """Read all labels and the median camera of an archive of ``label_2`` and ``calib`` files.

    Args:
        archive: a tar file with members ``label_2/NNNNNN.txt`` and ``calib/NNNNNN.txt``.

    Returns:
        Per frame the ``(name, 14 numbers)`` of every object except DontCare, and the camera:
        focal length and principal point in pixels, and its position in the LiDAR frame in m.
    """
    texts = {}
    with tarfile.open(archive) as tar:  # in the order of the archive: gzip cannot seek
        for member in tar:
            stream = tar.extractfile(member) if member.isfile() else None
            if stream is not None:
                texts[member.name] = stream.read().decode()
    frames, cameras = [], []
    for name, text in sorted(texts.items()):
        if "label_2/" in name:
            rows = [line.split() for line in text.splitlines()]
            frames.append([(r[0], np.array(r[1:], float)) for r in rows if r[0] != "DontCare"])
        elif "calib/" in name:
            values = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
            p2 = np.array(values["P2"].split(), float).reshape(3, 4)
            velo = np.array(values["Tr_velo_to_cam"].split(), float).reshape(3, 4)
            position = -velo[:, :3].T @ velo[:, 3]
            cameras.append([p2[0, 0], p2[0, 2], p2[1, 2], p2[0, 3], *position])
    keys = ("focal", "center_u", "center_v", "p2_offset", "x", "y", "z")
    return frames, dict(zip(keys, np.median(cameras, axis=0).round(4).tolist(), strict=True))


def quantiles(values: np.ndarray) -> list[float]:
    """Return ``values`` at the levels ``QUANTILES``, rounded to a millimeter."""
    return np.quantile(values, QUANTILES).round(3).tolist()


def class_statistics(frames: list[list[tuple[str, np.ndarray]]], name: str) -> dict[str, object]:
    """Return counts, sizes and poses of one class; sizes are ordered length, width, height."""
    rows = np.array([row for frame in frames for n, row in frame if n == name])
    counts = Counter(sum(n == name for n, _ in frame) for frame in frames)
    log_size = np.log(rows[:, [9, 8, 7]])
    lateral, forward, rotation_y = -rows[:, 10], rows[:, 12], rows[:, 13]
    near = forward < MAX_FORWARD
    flows, rest = {}, near.copy()
    for flow, axis in FLOWS.items():
        difference = np.mod(rotation_y - axis + np.pi, 2 * np.pi) - np.pi
        chosen = near & (np.abs(difference) < FLOW_WIDTH)
        rest &= ~chosen
        flows[flow] = {
            "share": round(float(chosen.sum() / near.sum()), 4),
            "lateral_quantiles": quantiles(lateral[chosen]),
            "heading_std": round(float(difference[chosen].std()), 4),
        }
    flows["other"] = {
        "share": round(float(rest.sum() / near.sum()), 4),
        "lateral_quantiles": quantiles(lateral[rest]),
    }
    return {
        "count_shares": [round(counts[k] / len(frames), 5) for k in range(max(counts) + 1)],
        "log_size_mean": log_size.mean(0).round(4).tolist(),
        "log_size_covariance": np.cov(log_size.T).round(6).tolist(),
        "size_minimum": np.exp(log_size).min(0).round(2).tolist(),
        "size_maximum": np.exp(log_size).max(0).round(2).tolist(),
        "forward_quantiles": quantiles(forward[near]),
        "flows": flows,
    }


def derive(archive: Path) -> dict[str, object]:
    """Return all numbers of ``statistics.json``."""
    frames, camera = read_archive(archive)
    return {
        "num_frames": len(frames),
        "quantile_levels": QUANTILES.round(4).tolist(),
        "camera": camera,
        "classes": {name: class_statistics(frames, name) for name in CLASSES},
    }


def main() -> None:
    """Parse the command line, derive, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, help="tar file with label_2/ and calib/")
    parser.add_argument("--out", type=Path, default=OUTPUT)
    args = parser.parse_args()
    args.out.write_text(json.dumps(derive(args.archive), indent=1) + "\n")


if __name__ == "__main__":
    main()

"""The file of an energy: weights, what is needed to use them, and where they come from."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from ebm3d.datasets.atomic import write_atomically
from ebm3d.datasets.problems import DataError, Problem
from ebm3d.errors import input_error
from ebm3d.refinement.points_energy import EnergySettings, PointsEnergy
from ebm3d.refinement.trust import Trust

_KIND, _VERSION = "ebm3d energy on points", 1
_FRAME = "LiDAR frame: x, y, z of the bottom center, length, width, height (m), yaw (rad)"


@dataclass(frozen=True)
class EnergyFile:
    """An energy and what is known of it.

    Attributes:
        energy: on the CPU.
        training: data's name and counts, steps, losses, licence; for people.
        trust: fitted for a detector, or None.
        coverage: calibration scores for :class:`ebm3d.evaluation.coverage.CoverageTable`, or None.
    """

    energy: PointsEnergy
    training: Mapping[str, Any] = field(default_factory=dict)
    trust: Trust | None = None
    coverage: Mapping[str, Any] | None = None


def shipped_energy() -> Path:
    """Path of the energy in the package, trained on simulated frames alone."""
    return Path(str(resources.files("ebm3d.refinement") / "energies" / "simulated.pt"))


def save_energy(path: str | Path, file: EnergyFile) -> None:
    """Write an energy file, all or nothing."""
    stream = BytesIO()
    torch.save(
        {
            "kind": _KIND,
            "version": _VERSION,
            "frame": _FRAME,
            "settings": file.energy.settings.as_dict(),
            "weights": {name: value.cpu() for name, value in file.energy.state_dict().items()},
            "training": dict(file.training),
            "trust": None if file.trust is None else file.trust.as_dict(),
            "coverage": None if file.coverage is None else dict(file.coverage),
        },
        stream,
    )
    write_atomically(Path(path), stream.getvalue())


def load_energy(path: str | Path) -> EnergyFile:
    """Read an energy file; nothing in it is executed.

    Raises:
        DataError: if it is missing, is no energy file, or one of another version.
    """
    path = Path(path)
    expected, remedy = "an energy file", "make one by `ebm3d train-energy`"
    try:
        data = BytesIO(path.read_bytes())
        is_archive = zipfile.is_zipfile(data)
        data.seek(0)
        content = torch.load(data, map_location="cpu", weights_only=True) if is_archive else None
    except FileNotFoundError as error:
        raise DataError([Problem(path, None, expected, "no such file", remedy)]) from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        got = f"a file that cannot be read ({_first_sentence(error)})"
        raise DataError([Problem(path, None, expected, got, remedy)]) from error
    if not isinstance(content, dict) or content.get("kind") != _KIND:
        of_detector = isinstance(content, dict) and "state_dict" in content
        got = "a checkpoint of a detector" if of_detector else "another kind of file"
        raise DataError([Problem(path, None, expected, got, remedy)])
    if content.get("version") != _VERSION:
        got = f"version {content.get('version', 'none')}"
        raise DataError([Problem(path, None, f"version {_VERSION}", got, "train it again")])
    try:
        return _energy_file(content)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        got = f"a damaged or changed one ({type(error).__name__}: {_first_sentence(error)})"
        raise DataError([Problem(path, None, expected, got, "train it again")]) from error


def _energy_file(content: Mapping[str, Any]) -> EnergyFile:
    """Build what a file holds; raises where it is not whole."""
    energy = PointsEnergy(EnergySettings(**content["settings"]))
    energy.load_state_dict(content["weights"])
    if not all(bool(value.isfinite().all()) for value in energy.state_dict().values()):
        raise input_error("weights", "finite", "NaN or infinity")
    trust = None if content["trust"] is None else Trust.from_dict(content["trust"])
    return EnergyFile(energy.eval(), dict(content["training"]), trust, content["coverage"])


def _first_sentence(error: Exception) -> str:
    """The first sentence of a message."""
    return (str(error).splitlines() or [""])[0].partition(". ")[0].rstrip(":.")

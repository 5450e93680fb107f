"""Audits of labels: planted errors are found, others left alone, and the files say what was done.

The energy of these tests is a Gaussian around boxes that are known: no network, no training.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.datasets.results import FrameClouds, LabelledFrames, read_label_set
from ebm3d.refinement.audit import LabelAudit, audit_labels
from ebm3d.refinement.audit_folds import assign_folds, read_groups
from ebm3d.refinement.audit_page import CORRECTED, PAGE, TABLE, write_audit
from ebm3d.refinement.points_energy import EnergySettings, PointsEnergy

_STD = (0.10, 0.06, 0.06, 0.04, 0.04, 0.04, 0.03)
_CONVENTION = 0.05  # meters by which all labels are too high
_WRONG = {3: (0, 0.4), 17: (6, 0.2), 22: (4, 0.3)}  # label: column, error
_EMPTY, _OTHER = 9, 14  # a label with two points, one of a class the energy does not know
_THRESHOLD = 6.0


class _PlantedEnergy(PointsEnergy):
    """A Gaussian around the nearest true box."""

    def __init__(self, truth: np.ndarray) -> None:
        super().__init__(EnergySettings(("Car",), ((4.0, 1.7, 1.5),), ((0.1,) * 7,)))
        self.truth = torch.from_numpy(truth).float()

    def around(self, points, boxes: Tensor, labels: Tensor, frame_index=None):  # type: ignore[no-untyped-def, override]
        """See the base."""
        nearest = self.truth[torch.cdist(boxes[:, :2], self.truth[:, :2]).argmin(dim=1)]
        coding = LocalCoding(nearest, torch.tensor(_STD).expand(len(boxes), -1))
        return lambda y: -0.5 * coding.encode(y).square().sum(dim=-1)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    """True boxes of 8 frames of 4, all far from each other."""
    rng = np.random.default_rng(0)
    boxes = np.zeros((32, 7))
    boxes[:, 0], boxes[:, 1] = 10 + 10 * np.arange(32), rng.uniform(-5, 5, 32)
    boxes[:, 2], boxes[:, 3:6] = -1.7, rng.uniform(0.9, 1.1, (32, 3)) * (4.0, 1.7, 1.5)
    boxes[:, 6] = rng.uniform(-3, 3, 32)
    return boxes


@pytest.fixture(scope="module")
def frames(truth: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> LabelledFrames:
    """Labels, too high, some of them wrong, with their clouds."""
    folder = tmp_path_factory.mktemp("audit")
    labels = truth + np.random.default_rng(1).normal(0, 0.01, truth.shape)
    labels[:, 2] += _CONVENTION
    for row, (column, error) in _WRONG.items():
        labels[row, column] += error
    (folder / "labels").mkdir()
    (folder / "clouds").mkdir()
    for frame in range(8):
        lines, points = [], []
        for row in range(4 * frame, 4 * frame + 4):
            name = "Tram" if row == _OTHER else "Car"
            lines.append(" ".join(f"{value:.4f}" for value in labels[row]) + f" {name}\n")
            points.append(np.tile([*truth[row, :2], -1.0, 0.5], (2 if row == _EMPTY else 30, 1)))
        (folder / "labels" / f"{frame:06d}.txt").write_text("".join(lines))
        cloud = np.concatenate(points).astype(np.float32)
        cloud.tofile(folder / "clouds" / f"{frame:06d}.bin")
    results = read_label_set(folder / "labels", origin="bottom")
    return LabelledFrames(results, FrameClouds(folder / "clouds"))


@pytest.fixture(scope="module")
def audit(frames: LabelledFrames, truth: np.ndarray) -> LabelAudit:
    """An audit by an energy for all frames."""
    return audit_labels(frames, _PlantedEnergy(truth))


def test_planted_errors_are_the_least_likely(audit: LabelAudit) -> None:
    assert set(audit.order()[: len(_WRONG)].tolist()) == set(_WRONG)
    assert set(np.flatnonzero(audit.unlikeliness > _THRESHOLD).tolist()) == set(_WRONG)


def test_proposals_take_errors_back_and_keep_conventions(
    audit: LabelAudit, truth: np.ndarray
) -> None:
    wrong = list(_WRONG)
    expected = truth[wrong] + np.array([0, 0, _CONVENTION, 0, 0, 0, 0])
    # The prior of the errors draws 0.4 m back by 0.1^2 / (0.1^2 + 0.35^2), which is 0.03 m.
    np.testing.assert_allclose(audit.proposals[wrong], expected, atol=0.05)
    np.testing.assert_allclose(audit.shifts["Car"][2], _CONVENTION, atol=0.01)


def test_labels_without_points_or_of_other_classes_are_not_judged(audit: LabelAudit) -> None:
    assert np.flatnonzero(~audit.is_judged).tolist() == [_EMPTY, _OTHER]
    assert set(audit.order()[-2:].tolist()) == {_EMPTY, _OTHER}
    assert audit.reason(_EMPTY) == "2 points, fewer than 5"
    assert audit.reason(_OTHER) == "no energy for its class"
    np.testing.assert_array_equal(audit.proposals[_EMPTY], audit.labels[_EMPTY])


def test_each_frame_is_judged_by_the_energy_of_its_fold(
    frames: LabelledFrames, truth: np.ndarray, audit: LabelAudit
) -> None:
    folds = np.array([1, 0, 0, 1, 1, 0, 1, 0])
    moved = truth + np.array([0, 0.5, 0, 0, 0, 0, 0])
    energies = [_PlantedEnergy(truth), _PlantedEnergy(moved)]
    by_folds = audit_labels(frames, lambda fold: energies[fold], folds)
    of_label = np.repeat(folds, 4)
    shift = by_folds.proposals[:, 1] - audit.proposals[:, 1]
    judged = by_folds.is_judged
    assert abs(np.median(shift[judged & (of_label == 1)]) - np.median(shift[of_label == 0])) > 0.3


def test_folds_keep_groups_whole_and_share_labels() -> None:
    rng = np.random.default_rng(2)
    groups = [f"drive{number}" for number in rng.integers(12, size=90)]
    num_labels = rng.integers(0, 9, 90)
    folds = assign_folds(groups, num_labels.tolist(), 3)
    for group in set(groups):
        assert len(set(folds[np.array(groups) == group].tolist())) == 1
    shares = np.bincount(folds, num_labels) / num_labels.sum()
    assert shares.min() > 0.25
    with pytest.raises(ValueError, match="num_folds"):
        assign_folds(["a", "a", "b"], [1, 1, 1], 3)


@pytest.mark.parametrize(
    "text", ["3,a\n7,b\n", "id,split,raw_drive\n000003,train,a\n000007,val,b\n"]
)
def test_groups_are_read_with_and_without_names_of_columns(text: str, tmp_path: Path) -> None:
    path = tmp_path / "groups.csv"
    path.write_text(text)
    ids = [line.split(",")[0] for line in text.splitlines() if line[0].isdigit()]
    assert read_groups(path, ids) == ["a", "b"]
    with pytest.raises(ValueError, match="none for 1"):
        read_groups(path, [*ids, "000009"])


def test_files_of_an_audit(frames: LabelledFrames, audit: LabelAudit, tmp_path: Path) -> None:
    before = {path.name: path.read_text() for path in frames.labels.path.iterdir()}
    out = tmp_path / "out"
    write_audit(out, frames, audit, _THRESHOLD, num_pictures=2)
    assert {path.name: path.read_text() for path in frames.labels.path.iterdir()} == before
    with (out / TABLE).open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(audit)
    listed = {(line["frame"], int(line["row"])) for line in table if line["corrected"] == "1"}
    changed = {
        (name[:-4], row)
        for name, text in before.items()
        for row, (old, new) in enumerate(
            zip(text.splitlines(), (out / CORRECTED / name).read_text().splitlines(), strict=True)
        )
        if old != new
    }
    assert changed == listed == {(f"{row // 4:06d}", row % 4) for row in _WRONG}
    unjudged = {line["not_judged"] for line in table if not line["unlikeliness"]}
    assert unjudged == {audit.reason(_EMPTY), audit.reason(_OTHER)}
    links = re.findall(r'(?:src|href)="([^"]+)"', (out / PAGE).read_text())
    assert len([link for link in links if link.endswith(".png")]) == 2
    assert all((out / link).exists() for link in links)

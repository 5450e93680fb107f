import pickle
from pathlib import Path

import pytest
import torch

from ebm3d.datasets.problems import DataError
from ebm3d.refinement.energy_file import EnergyFile, load_energy, save_energy
from ebm3d.refinement.points_energy import PointsEnergy
from ebm3d.refinement.training import TrainingFrame, held_out_loss, train_energy
from ebm3d.refinement.trust import Trust
from tests.refinement.planted import SETTINGS


def _frame(seed: int) -> TrainingFrame:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.tensor(
        [[12.0, 3.0, -1.7, 4.1, 1.7, 1.5, 0.0], [20.0, -4.0, -1.6, 3.8, 1.6, 1.5, 0.0]]
    )
    faces = torch.rand(2, 80, 3, generator=generator) - torch.tensor([0.5, 0.5, 0.0])
    faces[:, :40, 0], faces[:, 40:, 1] = -0.5, 0.5
    points = (faces * boxes[:, None, 3:6] + boxes[:, None, :3]).reshape(-1, 3)
    return TrainingFrame(
        torch.cat((points, torch.zeros(160, 1)), 1), boxes, torch.zeros(2, dtype=torch.int64)
    )


def test_a_file_gives_the_same_energy(tmp_path: Path) -> None:
    torch.manual_seed(0)
    energy = PointsEnergy(SETTINGS)
    trust = Trust.default(energy)
    save_energy(tmp_path / "energy.pt", EnergyFile(energy, {"frames": 3}, trust, {"scores": [1.0]}))
    loaded = load_energy(tmp_path / "energy.pt")
    assert loaded.energy.settings == SETTINGS
    assert loaded.training == {"frames": 3}
    assert loaded.trust == trust
    assert loaded.coverage == {"scores": [1.0]}
    frame = _frame(0)
    values = [
        e.around([frame.points], frame.boxes, frame.labels)(frame.boxes)
        for e in (energy, loaded.energy)
    ]
    assert torch.equal(*values)


class _Executed:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


@pytest.mark.parametrize(
    ("content", "got"),
    [
        ({"state_dict": {}, "meta": {}}, "a checkpoint of a detector"),
        ({"kind": "ebm3d energy on points", "version": 2}, "version 2"),
        ([1, 2], "another kind of file"),
        (_Executed(), "cannot be read"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, content: object, got: str) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(DataError, match=got) as error:
        load_energy(path)
    assert "other.pt" in str(error.value)


def test_missing_and_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_energy(tmp_path / "missing.pt")
    (tmp_path / "text.pt").write_text("no energy")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps({"a": 1}))
    for name in ("text.pt", "pickle.pt"):
        with pytest.raises(DataError, match="another kind"):
            load_energy(tmp_path / name)
    save_energy(tmp_path / "energy.pt", EnergyFile(PointsEnergy(SETTINGS)))
    content = bytearray((tmp_path / "energy.pt").read_bytes())
    content[1000:1400] = bytes(400)
    (tmp_path / "damaged.pt").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        load_energy(tmp_path / "damaged.pt")


def test_training_lowers_the_loss_and_is_the_same_again() -> None:
    frames = [_frame(seed) for seed in range(4)]
    losses = []
    for _ in range(2):
        torch.manual_seed(0)
        energy = PointsEnergy(SETTINGS)
        before = held_out_loss(energy, frames)
        result = train_energy(energy, frames, frames[:1], num_steps=20, boxes_per_step=4)
        assert held_out_loss(energy, frames) < before - 0.5
        assert result.best_step in result.losses
        losses.append(result.losses)
    assert losses[0] == losses[1]


def test_frames_without_boxes_are_refused() -> None:
    empty = TrainingFrame(torch.zeros(5, 4), torch.zeros(0, 7), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="frames"):
        train_energy(PointsEnergy(SETTINGS), [empty], [])

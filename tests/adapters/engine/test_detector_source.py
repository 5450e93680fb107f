"""Where a refinement head takes its detector from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.mmdet3d

_HEAD = "ebm_second_simulated_cpu.py"
_FOLDER = Path("work_dirs/second_simulated_cpu")
_MODE = "model.bbox_head.detector"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def save(path: Path, epoch: int = 6, detector: str | None = None) -> Path:
    """A checkpoint without parameters, of a detector or of a head on one."""
    model = {"type": "VoxelNet"}
    if detector is not None:
        model = {"bbox_head": {"type": "RefinedDenseHead", "detector": detector}}
    text = f"model = {model}\ntrain_cfg = dict(max_epochs=6)\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"meta": {"epoch": epoch, "cfg": text}, "state_dict": {}}, path)
    return path


def supplied(
    options: dict[str, Any] | None = None, resumed: Path | None = None, config: str = _HEAD
) -> tuple[Any, str | None]:
    from ebm3d.adapters.engine.detector_source import choose_detector
    from ebm3d.adapters.engine.settings import read_config

    cfg = read_config(config)
    source = choose_detector(cfg, options or {}, resumed)
    if source is not None:
        source.apply(cfg)
    return cfg, None if source is None else source.message


def is_one_run(cfg: Any) -> bool:
    """Whether detector and head are trained together, as long and as fast as the detector alone."""
    from ebm3d.adapters.engine.settings import read_config

    detector = read_config("second_simulated_cpu.py")
    same = [cfg[key] == detector[key] for key in ("optim_wrapper", "param_scheduler", "train_cfg")]
    assert len(set(same)) == 1
    assert (cfg.model.bbox_head.get("detector") == "detached") == same[0]
    return same[0]


def test_the_checkpoint_that_the_detectors_training_saved_last_is_taken():
    for epoch in (4, 6, 5):  # the last written is not the last of the training
        save(_FOLDER / f"epoch_{epoch}.pth", epoch)
    (_FOLDER / "last_checkpoint").write_text("/moved/since/epoch_6.pth")
    cfg, message = supplied()
    assert cfg.load_from == str(_FOLDER / "epoch_6.pth")
    assert "epoch_6.pth" in message
    assert "unfinished" not in message
    assert not is_one_run(cfg)
    (_FOLDER / "last_checkpoint").unlink()
    cfg, message = supplied()
    assert cfg.load_from == str(_FOLDER / "epoch_5.pth")
    assert "epoch 5 of 6" in message


def test_without_a_checkpoint_detector_and_head_are_trained_in_one_run():
    cfg, message = supplied()
    assert is_one_run(cfg)
    assert cfg.load_from is None
    assert "second_simulated_cpu.py" in message


@pytest.mark.parametrize("options", [{"load_from": "any.pth"}, {_MODE: "joint"}])
def test_what_was_asked_for_is_left_as_it_is(options: dict[str, Any]):
    cfg, message = supplied(options)
    assert message is None
    assert not is_one_run(cfg)


def test_one_run_can_be_asked_for_where_there_is_a_checkpoint():
    save(_FOLDER / "epoch_6.pth")
    cfg, _ = supplied({_MODE: "detached"})
    assert is_one_run(cfg)
    assert cfg.load_from is None


def test_a_resumed_training_goes_on_as_it_began():
    assert is_one_run(supplied(resumed=save(Path("run/epoch_2.pth"), 2, "detached"))[0])
    save(_FOLDER / "epoch_6.pth")
    assert is_one_run(supplied(resumed=Path("run/epoch_2.pth"))[0])
    assert not is_one_run(supplied(resumed=save(Path("run/epoch_3.pth"), 3, "frozen"))[0])


def test_a_composed_head_finds_the_detector_it_was_put_on(tmp_path: Path):
    from ebm3d.adapters.engine import compose
    from ebm3d.adapters.engine.detector_source import choose_detector

    path = tmp_path / "mine.py"
    path.write_text(f'_base_ = ["{shipped()}"]\n')
    save(tmp_path / "work_dirs" / "mine" / "epoch_1.pth", 1)
    cfg = compose(path, "laplace", "refinement")
    assert choose_detector(cfg, {}).load_from == "work_dirs/mine/epoch_1.pth"


def shipped() -> str:
    from ebm3d.paths import config_path

    return str(config_path("second_simulated_cpu.py"))


def test_a_detector_alone_has_nothing_to_find():
    assert supplied(config="second_simulated_cpu.py")[1] is None

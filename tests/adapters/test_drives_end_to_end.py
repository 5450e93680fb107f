"""Ten classes in drives, from the data set to refined boxes: train and test in one run each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.adapters.drives import write_drive
from tests.adapters.tiny import HOST_WARNINGS

pytestmark = [
    pytest.mark.mmdet3d,
    pytest.mark.usefixtures("registered"),
    pytest.mark.filterwarnings("ignore"),  # of the host, in every module that it trains
    *HOST_WARNINGS,
]

_STOCK = """
_base_ = [
    "mmdet3d::centerpoint/centerpoint_pillar02_second_secfpn_8xb4-cyclic-20e_nus-3d.py",
    "{plugin}",
]

train_dataloader = dict(persistent_workers=False)
val_evaluator = dict(
    _delete_=True, type="EBM3DNuScenesMetric", ann_file=_base_.data_root + "nuscenes_infos_val.pkl"
)
test_evaluator = val_evaluator
"""


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four key frames to train on and two to test, with two sweeps but for the first."""
    root: Path = tmp_path_factory.mktemp("drives")
    write_drive(root, {"train": 4, "val": 2}, num_sweeps=2)
    return root


def _options(root: Path, **more: Any) -> dict[str, Any]:
    """Options of a run of seconds: 25.6 m x 25.6 m, maps of that size, one epoch, few boxes."""
    return {
        "data_root": str(root),
        "point_cloud_range": [-12.8, -12.8, -5, 12.8, 12.8, 3],
        "model.pts_middle_encoder.output_shape": [64, 64],
        "model.pts_bbox_head.refinement_head.max_refined": 20,
        "model.pts_bbox_head.refinement_head.loss.num_noise_samples": 8,
        "max_epochs": 1,
        "train_dataloader.num_workers": 0,
        "val_dataloader.num_workers": 0,
        "test_dataloader.num_workers": 0,
        "val_evaluator.num_replicates": 5,
        "test_evaluator.num_replicates": 5,
        "train_cfg.val_begin": 2,
        **more,
    }


@pytest.mark.parametrize("name", ["centerpoint", "pointpillars"])
def test_detector_and_energy_are_trained_in_one_run_and_tested(
    drives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    from ebm3d.adapters.engine import evaluate, train

    monkeypatch.chdir(tmp_path)
    config = f"ebm_{name}_simulated_drives_cpu.py"
    runner = train(config, work_dir=tmp_path / "run", cfg_options=_options(drives))
    head = runner.model.pts_bbox_head
    assert head.detector == "detached"
    assert head.refinement_head.class_names == tuple(runner.cfg.class_names)
    options = _options(drives)
    del options["max_epochs"], options["train_cfg.val_begin"]
    figures = evaluate(config, tmp_path / "run" / "epoch_1.pth", cfg_options=options)
    assert {"before", "after"} <= figures.keys()


def test_a_stock_config_and_the_plugin_are_enough(
    drives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Ten lines over the host's own config; --head ebm does the rest, and velocities are kept."""
    import torch
    from mmdet3d.registry import DATASETS, MODELS
    from mmengine.dataset import pseudo_collate
    from mmengine.registry import init_default_scope

    import ebm3d
    from ebm3d.adapters.engine import load_settings

    monkeypatch.chdir(tmp_path)
    config = tmp_path / "mine.py"
    config.write_text(_STOCK.format(plugin=ebm3d.config_path("_base_/plugin.py")))
    options = {"data_root": str(drives), "point_cloud_range": [-12.8, -12.8, -5, 12.8, 12.8, 3]}
    cfg = load_settings(config, head="ebm", cfg_options=options)
    init_default_scope("mmdet3d")
    model = MODELS.build(cfg.model)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    data = model.data_preprocessor(pseudo_collate([dataset[0]]), training=True)
    losses = model(**data, mode="loss")
    assert all(torch.isfinite(value) for value in losses.values())
    losses["loss_ebm"].backward()

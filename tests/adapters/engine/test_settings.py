"""Options laid over a config, and configs that contradict themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]


def load(config: str = "second_kitti_cpu.py", **options: Any) -> Any:
    """A shipped config with options."""
    from ebm3d.adapters.engine import load_settings

    return load_settings(config, **options)


def test_a_new_folder_and_a_new_range_reach_every_place() -> None:
    bounds = [0, -12.8, -3, 25.6, 12.8, 1]
    options = {"data_root": "data/other", "point_cloud_range": bounds}
    cfg = load(cfg_options={**options, "model.middle_encoder.sparse_shape": [21, 256, 256]})
    assert "data/kitti_mini" not in cfg.pretty_text
    assert cfg.pretty_text.count("data/other/") >= 7
    assert cfg.model.data_preprocessor.voxel_layer.point_cloud_range == bounds
    for pipeline in (cfg.train_dataloader.dataset.pipeline, cfg.test_dataloader.dataset.pipeline):
        filters = [step for step in pipeline if step.type.endswith("RangeFilter")]
        assert all(step.point_cloud_range == bounds for step in filters)


_PLACE = "test_dataloader.dataset.pipeline.1.point_cloud_range"
_VOXEL = "model.data_preprocessor.voxel_layer.voxel_size"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cfg_options": {_PLACE: [0, -40, -3, 70.4, 40, 1]}}, _PLACE),
        ({"cfg_options": {_VOXEL: [0.05, 0.05, 0.1]}}, "middle_encoder"),
        ({"launcher": "mail"}, "slurm"),
    ],
)
def test_contradictions_are_refused_with_their_place(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(**options)


def test_a_voxel_encoder_that_assumes_another_range_is_refused() -> None:
    """Its default belongs to the host's full-size model; features would be silently off center."""
    from ebm3d.adapters.engine.settings import check_settings

    cfg = load("pointpillars_kitti_cpu.py")
    del cfg.model.voxel_encoder["point_cloud_range"]
    with pytest.raises(ValueError, match="hand point_cloud_range to the voxel encoder"):
        check_settings(cfg)


def test_seed_launcher_and_work_folder_are_laid_over_the_config() -> None:
    cfg = load(work_dir="elsewhere", seed=5, launcher="none")
    assert (cfg.work_dir, cfg.randomness["seed"], cfg.launcher) == ("elsewhere", 5, "none")
    assert Path(load().work_dir) == Path("work_dirs/second_kitti_cpu")


def test_mixed_precision_is_bfloat16_on_a_cpu_and_scaled_float16_on_cuda() -> None:
    from ebm3d.adapters.engine import apply_amp

    cfg = load()
    apply_amp(cfg)
    wanted = "AmpOptimWrapper" if torch.cuda.is_available() else "CPUAmpOptimWrapper"
    assert cfg.optim_wrapper.type == wanted
    assert cfg.optim_wrapper.clip_grad.max_norm == 10
    cfg.optim_wrapper.type = "ApexOptimWrapper"
    with pytest.raises(ValueError, match="optim_wrapper"):
        apply_amp(cfg)


def test_refinement_is_switched_off_and_a_plain_detector_stays_as_it_is() -> None:
    from ebm3d.adapters.engine import switch_refinement_off

    refined, plain = load("ebm_second_kitti_cpu.py"), load()
    before = plain.pretty_text
    for cfg in (refined, plain):
        switch_refinement_off(cfg)
    assert refined.model.bbox_head.refine is False
    assert plain.pretty_text == before

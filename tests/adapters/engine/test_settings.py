"""Options laid over a config, and configs that contradict themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]

CONFIG = "second_kitti_cpu.py"


def load(**options: Any) -> Any:
    """A shipped config with options."""
    from ebm3d.adapters.engine import load_settings

    return load_settings(CONFIG, **options)


def test_a_new_folder_reaches_every_place() -> None:
    """Data sets, database, metric: nothing of the old folder is left."""
    text = load(cfg_options={"data_root": "data/other"}).pretty_text
    assert "data/kitti_mini" not in text
    assert text.count("data/other/") >= 7


def test_a_new_range_reaches_every_place() -> None:
    """Filters, voxels; the grid of the encoder has to be said with it."""
    bounds = [0, -12.8, -3, 25.6, 12.8, 1]
    cfg = load(
        cfg_options={
            "point_cloud_range": bounds,
            "model.middle_encoder.sparse_shape": [21, 256, 256],
        }
    )
    assert cfg.model.data_preprocessor.voxel_layer.point_cloud_range == bounds
    for pipeline in (cfg.train_dataloader.dataset.pipeline, cfg.test_dataloader.dataset.pipeline):
        filters = [step for step in pipeline if step.type.endswith("RangeFilter")]
        assert all(step.point_cloud_range == bounds for step in filters)


def test_a_range_that_differs_in_one_place_is_refused() -> None:
    """The message names the place."""
    key = "test_dataloader.dataset.pipeline.1.point_cloud_range"
    with pytest.raises(ValueError, match=key):
        load(cfg_options={key: [0, -40, -3, 70.4, 40, 1]})


def test_a_grid_that_does_not_fit_the_range_is_refused() -> None:
    """Half the voxel size with the same grid."""
    with pytest.raises(ValueError, match="middle_encoder"):
        load(cfg_options={"model.data_preprocessor.voxel_layer.voxel_size": [0.05, 0.05, 0.1]})


def test_the_work_folder_is_named_after_the_config_or_given() -> None:
    """Seed and launcher are laid over the config, too."""
    cfg = load(work_dir="elsewhere", seed=5, launcher="none")
    assert (cfg.work_dir, cfg.randomness["seed"], cfg.launcher) == ("elsewhere", 5, "none")
    assert Path(load().work_dir) == Path("work_dirs/second_kitti_cpu")


def test_an_unknown_launcher_is_refused() -> None:
    """The message lists those there are."""
    with pytest.raises(ValueError, match="slurm"):
        load(launcher="mail")


def test_mixed_precision_is_bfloat16_on_a_cpu_and_scaled_float16_on_cuda() -> None:
    """The wrapper's type is changed, its settings stay."""
    from ebm3d.adapters.engine import apply_amp

    cfg = load()
    apply_amp(cfg)
    wanted = "AmpOptimWrapper" if torch.cuda.is_available() else "CPUAmpOptimWrapper"
    assert cfg.optim_wrapper.type == wanted
    assert cfg.optim_wrapper.clip_grad.max_norm == 10


def test_mixed_precision_refuses_a_wrapper_it_does_not_know() -> None:
    """Nothing is silently replaced."""
    from ebm3d.adapters.engine import apply_amp

    cfg = load(cfg_options={"optim_wrapper.type": "ApexOptimWrapper"})
    with pytest.raises(ValueError, match="optim_wrapper"):
        apply_amp(cfg)


def test_refinement_is_switched_off_where_there_is_some() -> None:
    """The refined head says refine=False; a plain detector stays as it is."""
    from ebm3d.adapters.engine import load_settings, switch_refinement_off

    refined, plain = load_settings("ebm_second_kitti_cpu.py"), load()
    before = plain.pretty_text
    for cfg in (refined, plain):
        switch_refinement_off(cfg)
    assert refined.model.bbox_head.refine is False
    assert plain.pretty_text == before


def test_a_voxel_encoder_that_assumes_another_range_is_refused() -> None:
    """Its default belongs to the host's full-size model; features would be silently off center."""
    from ebm3d.adapters.engine import load_settings
    from ebm3d.adapters.engine.settings import check_settings

    cfg = load_settings("pointpillars_kitti_cpu.py")
    del cfg.model.voxel_encoder["point_cloud_range"]
    with pytest.raises(ValueError, match="hand point_cloud_range to the voxel encoder"):
        check_settings(cfg)

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
_RANGE = "model.data_preprocessor.voxel_layer.point_cloud_range"
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


_Z = [0, -25.6, -5, 51.2, 25.6, 3]


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ("second", {"traindataloader.batch_size": 1}, "train_dataloader.batch_size"),
        ("second", {"lr": 0.1}, "optim_wrapper.optimizer.lr"),
        ("second", {"model.test_cfg.score_thresh": 0.2}, "score_thr"),
        ("second", {"model.backbone.layer_num": [1]}, "layer_nums"),
        ("second", {"train_pipeline.rate": 0}, "index from 0 to 8"),
        ("second", {"class_names": ["Pedestrian"]}, "class_names"),
        ("second", {"metainfo.classes": ["Van"]}, "metainfo.classes"),
        ("second", {"max_epochs": 3, "train_cfg.max_epochs": 4}, "max_epochs must be"),
        ("second_simulated", {"refinement_epochs": 3}, "--head"),
        ("second", {"data_root": 2020}, "data_root"),
        ("second", {"point_cloud_range": _Z}, "backbone.in_channels must be 160"),
        ("second", {"model.middle_encoder.sparse_shape": [19, 512, 512]}, r"\[21, 512, 512\]"),
        ("second", {"point_cloud_range": [0, -25, -3, 50, 25, 1]}, r"\[0, -24.8, -3, 49.6"),
        ("second", {"model.bbox_head.score_thr": 0.2}, r"read is model\.test_cfg\.score_thr"),
        ("second", {"model.voxel_layer.max_voxels": 9}, "preprocessor.voxel_layer.max_voxels"),
        ("second", {"train_cfg.max_iters": 9}, "train_cfg.max_epochs"),
        ("second", {"optim_wrapper.optimizer.lr": 0.1}, r"param_scheduler\.0\.eta_max=VALUE"),
        ("second", {"auto_scale_lr.enable": True}, r"param_scheduler\.0\.eta_max"),
        ("second", {"voxel_size": [0.1, 0.1]}, "voxel_size must be three"),
        ("second", {"voxel_size": 0.1}, "voxel_size must be three"),
        ("second", {"point_cloud_range": [51.2, -25.6, -3, 0, 25.6, 1]}, "below its high end"),
        ("second", {"point_cloud_range": [0, -25.6, -3, 51.2, 25.6]}, r"\[x, y, z, x, y, z\]"),
        ("second", {f"{_RANGE}": [0, -25.6, -3, 51.2, 25.6, float("nan")]}, "point_cloud_range"),
        ("second", {"class_names": "Car"}, "class_names must be a list"),
        ("second", {"train_dataloader.batch_size": 0}, "train_dataloader.batch_size must be at"),
        ("second", {"val_dataloader.num_workers": -1}, "val_dataloader.num_workers must be at"),
        ("pointpillars", {"point_cloud_range": _Z}, "8 m, the height"),
        ("pointpillars", {"point_cloud_range": [0, -25, -3, 50, 25, 1]}, "0.8 m, 4 voxels"),
        ("pointpillars", {"model.neck.upsample_strides": [1, 1]}, r"must be \[1, 2\]"),
    ],
)
def test_what_nothing_reads_or_fits_is_refused_with_what_would(
    config: str, options: Any, message: str
) -> None:
    name = f"{config}_cpu.py" if "simulated" in config else f"{config}_kitti_cpu.py"
    with pytest.raises(ValueError, match=message):
        load(name, cfg_options=options)


@pytest.mark.parametrize(
    "options",
    [
        {"train_dataloader.dataset.indices": 10, "default_hooks.checkpoint.interval": 2},
        {"optim_wrapper.accumulative_counts": 2, "randomness.deterministic": True},
        {"resume": True, "load_from": "x", "find_unused_parameters": True},
        {
            "auto_scale_lr.base_batch_size": 4,
            "train_cfg.val_begin": 3,
            "optim_wrapper.loss_scale": 2.0,
        },
        {"point_cloud_range": _Z, "voxel_size": [0.1, 0.1, 0.4]},
        {"model.middle_encoder.sparse_shape": [20, 512, 512]},
        {"default_hooks.checkpoint.save_best": "auto", "optim_wrapper.optimizer.amsgrad": True},
    ],
)
def test_what_the_host_reads_is_taken(options: dict[str, Any]) -> None:
    assert load(cfg_options=options).work_dir


def test_an_option_of_a_variable_reaches_what_the_files_compute_with_it() -> None:
    cfg = load("second_kitti.py", cfg_options={"lr": 0.001, "db_sampler.rate": 0.5})
    assert cfg.optim_wrapper.optimizer.lr == 0.001
    assert cfg.param_scheduler[0].eta_min == pytest.approx(0.01)
    assert cfg.train_dataloader.dataset.dataset.pipeline[2].db_sampler.rate == 0.5


@pytest.mark.parametrize("key", ["max_epochs", "train_cfg.max_epochs"])
def test_every_phase_of_a_schedule_scales_with_the_epochs(key: str) -> None:
    from ebm3d.adapters.engine.schedules import check_schedule

    cfg = load("second_kitti.py", cfg_options={key: 10})
    assert [(s.begin, s.end, s.T_max) for s in cfg.param_scheduler] == [(0, 4, 4), (4, 10, 6)] * 2
    check_schedule(cfg)
    paper = load("ebm_second_kitti_paper2020.py", cfg_options={key: 20})
    assert paper.param_scheduler[0].total_steps == paper.param_scheduler[2].end == 20
    head = load(head="ebm", cfg_options={"refinement_epochs": 3})
    assert (head.train_cfg.max_epochs, head.train_cfg.val_interval) == (3, 3)


@pytest.mark.parametrize(
    ("scheduler", "place"),
    [
        ({"type": "OneCycleLR", "total_steps": 20}, "0.total_steps must be 8"),
        ({"type": "OneCycleLR", "total_steps": 5}, "0.total_steps must be 8"),
        ({"type": "CosineAnnealingLR", "T_max": 6, "begin": 4}, "0.T_max must be 4"),
        ({"type": "LinearLR", "end": 9}, "0.end must be 8"),
        ({"type": "MultiStepLR", "milestones": [6, 9]}, "0.milestones must be below 8"),
    ],
)
def test_a_schedule_that_contradicts_the_epochs_is_refused(scheduler: Any, place: str) -> None:
    from mmengine import Config

    from ebm3d.adapters.engine.schedules import check_schedule

    with pytest.raises(ValueError, match=place):
        check_schedule(Config({"train_cfg": {"max_epochs": 8}, "param_scheduler": [scheduler]}))


@pytest.mark.parametrize("key", ["val_interval", "val_begin"])
def test_epochs_of_validation_are_counted_from_one(key: str) -> None:
    from mmengine import Config

    from ebm3d.adapters.engine.schedules import check_schedule

    with pytest.raises(ValueError, match=f"train_cfg.{key}"):
        check_schedule(Config({"train_cfg": {"max_epochs": 8, key: 0}}))


def mine(folder: Path, text: str, base: str = "second_kitti_cpu.py") -> str:
    """A config of somebody else on a shipped one."""
    from ebm3d import config_path

    file = folder / "mine.py"
    file.write_text(f"_base_ = {config_path(base)!r}\n{text}\n")
    return str(file)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("class_names", "class_names = ['other']"),
        ("data_root", "data_root = 'other'"),
        ("data_root", "data_root: str = 'other'"),
        ("data_root", "data_root, size = 'other', 1"),
        ("max_epochs", "max_epochs = 3"),  # 3 stands elsewhere, as the number of checkpoints
        ("lr", "lr = 0.1"),
    ],
)
def test_a_variable_of_a_base_set_too_late_is_refused(name: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{name} in mine.py"):
        load(mine(tmp_path, text, "second_kitti.py" if name == "lr" else "second_kitti_cpu.py"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("db_sampler = dict(rate=0)", "pipeline.2.db_sampler"),
        ("train_pipeline = []", "train_pipeline, which nothing reads"),
        ("lr = 0.1", "optim_wrapper.optimizer.lr"),
        (
            "data_root = 'in'\ntrain_dataloader = dict(dataset=dict(data_root=data_root))",
            "val_data",
        ),
    ],
)
def test_a_variable_that_may_be_meant_otherwise_is_said(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ebm3d.adapters.engine import options

    lines: list[str] = []
    monkeypatch.setattr(options, "print_log", lambda line, *_: lines.append(line))
    load(mine(tmp_path, text))
    assert len(lines) == 1
    assert said in lines[0]


@pytest.mark.parametrize(
    "text",
    [
        "data_root = 'data/kitti_mini/'",
        "train_cfg = dict(max_epochs=3)\nmax_epochs = 3",
        "size = 3\nmodel = dict(neck=dict(out_channels=[64, 64]))",
    ],
)
def test_variables_that_change_nothing_wrongly_are_no_error(text: str, tmp_path: Path) -> None:
    assert load(mine(tmp_path, text)).work_dir


def test_anchors_a_little_off_the_range_are_those_of_the_hosts_configs() -> None:
    from ebm3d.adapters.engine import check_settings

    cfg = load()
    ranges = cfg.model.bbox_head.anchor_generator.ranges
    ranges[0][3] = 51.0
    check_settings(cfg)
    ranges[0][3] = 40.0
    with pytest.raises(ValueError, match=r"anchor_generator\.ranges\[0\]"):
        check_settings(cfg)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("my data/", "my data/"),
        ("my (old) data", "my (old) data"),
        ("['Person sitting', Car]", ["Person sitting", "Car"]),
        ("[0, -1.5, True]", [0, -1.5, True]),
        ("1,2", [1, 2]),
        ("(1)", (1,)),
    ],
)
def test_values_keep_their_spaces(text: str, value: Any) -> None:
    from ebm3d.adapters.engine import parse_value

    assert parse_value(text) == value


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

"""Detector, head and training method combined: every combination, and what does not fit."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mmdet3d")

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]

DETECTORS = [
    f"{detector}_{data}"
    for detector, data in product(
        ("second", "pointpillars"), ("kitti", "kitti_cpu", "simulated_cpu")
    )
]
REGRESSIONS = ("direct", "gaussian", "laplace", "propel", "rlel", "bel", "binned")
LOSSES = (
    *("nce", "nce_plus", "conditional_nce", "learned_proposal", "ml_is", "kld_is", "ml_mcmc"),
    *("score_matching", "dsm", "snl"),
)
COMBINATIONS = [
    *({"head": head, "stage": stage} for head in REGRESSIONS for stage in ("dense", "refinement")),
    *({"head": "ebm", "loss": loss} for loss in LOSSES),
    *({"head": head} for head in ("ebm", "confidence", "paper2020")),
]


@cache
def _detector(name: str) -> Any:
    """The config of a detector, read once; not to be changed."""
    from mmengine import Config

    from ebm3d.adapters.engine.composition import find_config

    return Config.fromfile(find_config(f"{name}.py"))


def _head(cfg: Any) -> Any:
    """The part of a config that a combination is about."""
    return cfg.model.bbox_head.get("refinement_head", cfg.model.bbox_head)


def test_everything_that_is_listed_is_combined_here():
    from ebm3d.adapters.engine import variants

    heads = {v.name: v.stages for v in variants("head")}
    tables = {"ebm_3class", "ebm_nuscenes", "ebm_drives_cpu"}
    assert set(heads) == {*(c["head"] for c in COMBINATIONS), *tables}
    assert all(heads[name] == ("dense", "refinement") for name in REGRESSIONS)
    assert {v.name for v in variants("loss")} == set(LOSSES)
    assert {f"{name}" for name in DETECTORS} <= {v.name for v in variants("config")}
    assert all(
        v.summary.endswith((".", ",", "with", "to", "on")) or v.summary for v in variants("head")
    )


@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda c: "-".join(c.values()))
def test_a_combination_builds_and_leaves_the_rest_of_the_detector_alone(
    combination: dict[str, str],
):
    from mmdet3d.registry import MODELS
    from mmengine.registry import init_default_scope

    from ebm3d.adapters.engine import compose

    init_default_scope("mmdet3d")
    cfg = compose("second_kitti_cpu.py", **combination)
    stock = _detector("second_kitti_cpu")
    model = deepcopy(cfg.model)
    head = model.pop("bbox_head")
    assert {k: v for k, v in model.items() if k != "type"} == {
        k: v for k, v in stock.model.items() if k not in ("type", "bbox_head")
    }
    wrapped = head.get("dense_head", head)
    for key in ("anchor_generator", "bbox_coder", "loss_cls", "loss_dir"):
        assert wrapped[key] == stock.model.bbox_head[key]
    assert cfg.train_dataloader == stock.train_dataloader
    assert sum(p.numel() for p in MODELS.build(deepcopy(cfg.model)).parameters()) > 0


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_head_is_the_same_on_every_detector(detector: str):
    from ebm3d.adapters.engine import compose

    stock = _detector(detector)
    cfg = compose(f"{detector}.py", "laplace", "refinement")
    head = _head(cfg)
    assert head.in_channels == stock.model.bbox_head.in_channels
    assert list(head.point_cloud_range) == list(stock.point_cloud_range)
    assert cfg.model.bbox_head.dense_head == stock.model.bbox_head
    same = _head(compose("second_kitti_cpu.py", "laplace", "refinement"))
    parts = ("pooling", "noise", "network", "regression", "num_iterations")
    assert {k: head[k] for k in parts} == {k: same[k] for k in parts}


@pytest.mark.parametrize(
    "name",
    ["ebm_second_kitti", "ebm_second_kitti_3class", "ebm_pointpillars_kitti_cpu"]
    + ["ebm_second_simulated_cpu", "gaussian_second_kitti", "rlel_second_kitti"],
)
def test_a_shipped_config_is_the_composed_one(name: str):
    from ebm3d.adapters.engine import compose

    head, _, detector = name.partition("_")
    composed, shipped = compose(f"{detector}.py", head), _detector(name)
    assert Path(composed.filename).stem == name
    keys = ("model", "optim_wrapper", "param_scheduler", "train_cfg", "train_dataloader")
    for key in (*keys, "detector_config"):
        assert composed.get(key) == shipped.get(key), key


def test_a_training_method_changes_the_loss_or_the_noise_alone():
    from ebm3d.adapters.engine import compose

    plain = _head(compose("second_kitti_cpu.py", "ebm"))
    for loss in LOSSES:
        head = _head(compose("second_kitti_cpu.py", "ebm", loss=loss))
        changed = {key for key in plain if plain[key] != head[key]}
        assert changed <= {"noise" if loss == "learned_proposal" else "loss"}
        if loss == "learned_proposal":
            assert head.noise.base == plain.noise


def test_a_second_stage_regression_has_the_features_and_noise_of_the_energy():
    from ebm3d.adapters.engine import compose

    energy, regression = (
        _head(compose("second_kitti_3class.py", *head))
        for head in (("ebm",), ("gaussian", "refinement"))
    )
    changed = {k for k in {*energy, *regression} if energy.get(k) != regression.get(k)}
    assert changed == {"type", "network", "loss", "refiner", "regression", "num_iterations"}
    assert energy.network.mean_sizes == regression.network.mean_sizes
    assert len(energy.network.mean_sizes) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("second_kitti.py", "ebm", "dense"), "stage with --head ebm must be refinement"),
        (("second_kitti.py", "gaussian", None, "dsm"), "an energy .*but got gaussian"),
        (("second_kitti.py", "confidence", None, "dsm"), "an energy without a loss"),
        (
            ("ebm_second_kitti.py", "gaussian"),
            "stock detector, but got ebm_second_kitti.py",
        ),
        (("gaussian_second_kitti.py", "ebm"), "one of a stock detector"),
        (("second_kitti_3class.py", "ebm_3class"), None),
        (("second_kitti.py", "ebm_3class"), "class_names with --head ebm_3class"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_by_name(arguments: tuple[Any, ...], message: str | None):
    from ebm3d.adapters.engine import compose

    if message is None:
        compose(*arguments)
        return
    with pytest.raises(ValueError, match=message):
        compose(*arguments)


@pytest.mark.parametrize(
    ("kind", "arguments"), [("head", ("gauss",)), ("loss", ("ebm", None, "x"))]
)
def test_an_unknown_name_is_refused_with_those_there_are(kind: str, arguments: tuple[Any, ...]):
    from ebm3d.adapters.engine import compose

    with pytest.raises(FileNotFoundError, match=f"--{kind}: expected one of .*, (gaussian|dsm)"):
        compose("second_kitti.py", *arguments)


def test_a_head_in_a_file_of_its_author_needs_no_other_file(tmp_path: Path):
    from ebm3d.adapters.engine import compose

    file = tmp_path / "narrow.py"
    file.write_text("# Narrow.\nrefinement_head = dict(noise=dict(multipliers=(0.5,)))\n")
    cfg = compose("second_kitti.py", str(file))
    assert _head(cfg).noise.multipliers == (0.5,)
    assert Path(cfg.filename).name == "narrow_second_kitti.py"


def test_a_config_of_the_host_gets_the_plugin_and_tables_in_the_order_of_its_tasks(tmp_path: Path):
    from ebm3d.adapters.engine import compose

    file = tmp_path / "mine.py"
    name = "centerpoint_pillar02_second_secfpn_8xb4-cyclic-20e_nus-3d.py"
    file.write_text(f'_base_ = "mmdet3d::centerpoint/{name}"\n')
    cfg = compose(str(file), "ebm")
    tasks = cfg.model.pts_bbox_head.dense_head.tasks
    head = cfg.model.pts_bbox_head.refinement_head
    assert head.class_names == [name for task in tasks for name in task.class_names]
    assert head.class_names != list(head.noise.stds)
    assert "ebm3d.register" in cfg.custom_imports.imports
    assert not cfg.train_dataloader.persistent_workers


def test_stage_and_loss_need_a_head():
    from ebm3d.adapters.engine import load_settings

    with pytest.raises(ValueError, match="--head"):
        load_settings("second_kitti_cpu.py", loss="dsm")


def test_the_resolved_config_is_read_back_the_same(tmp_path: Path):
    from mmengine import Config

    from ebm3d.adapters.engine import load_settings

    cfg = load_settings("second_kitti_cpu.py", head="laplace", stage="refinement")
    assert Path(cfg.work_dir).name == "laplace_refinement_second_kitti_cpu"
    cfg.dump(tmp_path / "resolved.py")
    again = Config.fromfile(tmp_path / "resolved.py")
    assert again.model == cfg.model


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("head", "foo = 1", "--head .*dense_head or refinement_head, but got foo"),
        ("head", "dense_head = 5", "--head .*a dict"),
        ("head", "dense_head = dict(", "mine.py must be a config that can be read"),
        ("loss", "refinment_head = dict(loss=dict())", "--loss .*refinement_head or proposal"),
    ],
)
def test_a_file_without_the_expected_part_is_refused_by_name(
    kind: str, text: str, message: str, tmp_path: Path
):
    from ebm3d.adapters.engine import compose

    (tmp_path / "mine.py").write_text(text)
    file = str(tmp_path / "mine.py")
    with pytest.raises(ValueError, match=message):
        compose("second_kitti.py", *((file,) if kind == "head" else ("ebm", None, file)))


def test_a_resolved_config_hands_on_neither_its_folder_nor_its_imports_letter_by_letter(
    tmp_path: Path,
):
    from mmengine import Config

    from ebm3d.adapters.engine import compose

    cfg = Config.fromfile(_detector("second_kitti_cpu").filename)
    cfg.work_dir, cfg.resume, cfg.load_from = "the/detectors", True, "epoch_3.pth"
    cfg.dump(tmp_path / "resolved.py")
    (tmp_path / "head.py").write_text(
        "custom_imports = dict(imports='json')\nrefinement_head = dict(max_refined=5)\n"
    )
    composed = compose(tmp_path / "resolved.py", str(tmp_path / "head.py"), loss="dsm")
    assert "work_dir" not in composed
    assert (composed.resume, composed.load_from) == (False, None)
    assert composed.custom_imports.imports == ["ebm3d.register", "json"]
    assert _head(composed).max_refined == 5
    assert _head(composed).loss.type == "DSMLoss"


def test_sweeps_without_their_time_lag_are_refused(tmp_path: Path):
    from mmengine import Config

    from ebm3d.adapters.engine import compose

    cfg = Config.fromfile(_detector("centerpoint_simulated_drives_cpu").filename)
    cfg.train_dataloader.dataset.pipeline[1].use_dim = [0, 1, 2, 3]
    cfg.dump(tmp_path / "resolved.py")
    with pytest.raises(ValueError, match="use_dim of LoadPointsFromMultiSweeps must be with"):
        compose(tmp_path / "resolved.py", "ebm")

"""What a comparison of second stages refuses before it trains anything."""

from __future__ import annotations

import argparse
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mmdet3d")

pytestmark = pytest.mark.mmdet3d

# As the host writes it: names sorted.
_GROUP = "model = dict(bbox_head=dict(refinement_head=dict(heads=dict(bel={}, gaussian={}))))\n"


def arguments(folder: Path, **options: Any) -> argparse.Namespace:
    """Arguments that are in order: a checkpoint, selection data, an empty work folder."""
    (folder / "data").mkdir(exist_ok=True)
    for name in ("detector.pth", "data/kitti_infos_val.pkl"):
        (folder / name).touch()
    given: dict[str, Any] = {
        "detector": folder / "detector.pth",
        "detector_name": "second",
        "data": "simulated",
        "selection_data": str(folder / "data"),
        "settings": None,
        "seeds": [0],
        "heads": ["gaussian", "bel"],
        "work_dir": folder / "work",
        "train_only": False,
        "json": None,
        "markdown": None,
        "figure": None,
    }
    return argparse.Namespace(**{**given, **options})


def trained(
    folder: Path, config: str = "ebm_second_simulated_cpu.py", *heads: str, written: str = _GROUP
) -> None:
    """A work folder in which a group of gaussian and bel was trained, and what it saved."""
    seed = folder / "work" / "seed0"
    seed.mkdir(parents=True)
    (seed / config).write_text(written)
    for name in ("last_checkpoint", *(f"{head}.pth" for head in heads)):
        (seed / name).touch()


def check(args: argparse.Namespace) -> None:
    from tools.benchmarks.compare_regressions import check_args

    check_args(args)


def test_arguments_in_order_pass_and_folders_of_outputs_are_made(tmp_path: Path):
    check(arguments(tmp_path, json=tmp_path / "out" / "figures.json"))
    assert (tmp_path / "out").is_dir()


@pytest.mark.parametrize(
    ("option", "value"),
    [("detector", Path("no.pth")), ("selection_data", "no_data"), ("settings", Path("no.json"))],
)
def test_a_missing_file_is_named(tmp_path: Path, option: str, value: Any):
    with pytest.raises(FileNotFoundError, match=f"{option.replace('_', '-')} .*no"):
        check(arguments(tmp_path, **{option: value}))


def test_heads_of_another_detector_or_data_set_are_refused(tmp_path: Path):
    trained(tmp_path, "ebm_pointpillars_kitti_cpu.py", "gaussian", "bel")
    with pytest.raises(ValueError, match="work-dir must be a folder of heads trained with"):
        check(arguments(tmp_path))


def test_a_training_of_other_heads_is_not_gone_on_with(tmp_path: Path):
    trained(tmp_path, "ebm_second_simulated_cpu.py", "gaussian", "bel")
    with pytest.raises(ValueError, match="train rlel with another --work-dir"):
        check(arguments(tmp_path, heads=["gaussian", "rlel"]))


def test_a_killed_training_of_the_same_heads_is_gone_on_with(tmp_path: Path):
    trained(tmp_path)
    check(arguments(tmp_path))


def test_a_training_of_one_head_alone_is_not_gone_on_with(tmp_path: Path):
    alone = "model = dict(bbox_head=dict(refinement_head=dict(type='EBMRefinementHead')))\n"
    trained(tmp_path, written=alone)
    with pytest.raises(ValueError, match="heads must be one alone, whose training"):
        check(arguments(tmp_path))


@pytest.mark.usefixtures("registered")
def test_names_of_a_group_are_sorted_where_the_host_writes_them(tmp_path: Path):
    from ebm3d.adapters.engine.head_comparison import group_settings
    from tools.benchmarks.compare_regressions import contestant

    names = ["gaussian", "bel"]
    configs = {name: contestant(name, "second", "simulated").config for name in names}
    cfg = group_settings(configs, tmp_path / "work" / "seed0")
    trained(tmp_path, written=cfg.pretty_text)
    check(arguments(tmp_path, heads=names))


def test_heads_that_are_all_there_are_taken_whatever_was_trained_beside_them(tmp_path: Path):
    trained(tmp_path, "ebm_second_simulated_cpu.py", "gaussian", "bel", "ebm")
    check(arguments(tmp_path, heads=["ebm", "bel"]))


def test_some_of_the_trained_heads_are_enough(tmp_path: Path):
    trained(tmp_path, "ebm_second_simulated_cpu.py", "gaussian", "bel")
    check(arguments(tmp_path, heads=["bel"]))


@pytest.mark.parametrize("data", ["simulated", "kitti"])
@pytest.mark.parametrize("detector", ["second", "pointpillars"])
def test_every_head_has_its_config(detector: str, data: str):
    from ebm3d.paths import config_path
    from tools.benchmarks.compare_regressions import CHOICES, HEADS, contestant

    assert set(CHOICES) == set(HEADS)
    for name in HEADS:
        assert Path(config_path(contestant(name, detector, data).config)).is_file(), name


@pytest.mark.parametrize(
    ("folder", "group"), [("training", "trainings"), ("second_stage", "regressions")]
)
def test_every_config_of_a_head_is_compared(folder: str, group: str):
    from ebm3d.paths import config_path
    from tools.benchmarks.compare_regressions import GROUPS, HEADS

    suffix = "_second_simulated_cpu.py"
    beside = Path(config_path("ebm_second_simulated_cpu.py")).parent / folder
    found = {file.name.removesuffix(suffix) for file in beside.glob(f"*{suffix}")}
    assert found == set(GROUPS[group]) - {"ebm"}
    assert found < set(HEADS)


@pytest.mark.usefixtures("registered")
def test_every_head_has_the_settings_that_are_chosen_among():
    from mmdet3d.registry import MODELS

    from ebm3d.adapters.engine.head_selection import apply_settings
    from ebm3d.adapters.engine.settings import load_settings
    from tools.benchmarks.compare_regressions import HEADS, contestant

    for name in HEADS:
        entrant = contestant(name, "second", "simulated")
        head = MODELS.build(load_settings(entrant.config).model.bbox_head.refinement_head)
        for settings in entrant.choices:
            apply_settings(head, settings)
            assert {key: attrgetter(key)(head) for key in settings} == settings, name

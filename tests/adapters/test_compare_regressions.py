"""What a comparison of second stages refuses before it trains anything."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mmdet3d")

pytestmark = pytest.mark.mmdet3d

_GROUP = "model = dict(bbox_head=dict(refinement_head=dict(heads=dict(gaussian={}, bel={}))))\n"


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


def trained(folder: Path, config: str = "ebm_second_simulated_cpu.py", *heads: str) -> None:
    """A work folder in which a group of gaussian and bel was trained, and what it saved."""
    seed = folder / "work" / "seed0"
    seed.mkdir(parents=True)
    (seed / config).write_text(_GROUP)
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


def test_some_of_the_trained_heads_are_enough(tmp_path: Path):
    trained(tmp_path, "ebm_second_simulated_cpu.py", "gaussian", "bel")
    check(arguments(tmp_path, heads=["bel"]))

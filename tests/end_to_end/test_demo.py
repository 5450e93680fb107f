from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("mmdet3d")

from tests.oracles.subprocesses import run_python

pytestmark = [pytest.mark.slow, pytest.mark.mmdet3d]

_STAGES = ["simulate", "prepare", "train_detector", "train_ebm", "evaluate", "pictures"]
_RUN = """
import sys
import tools.demo, tools.visualize

out, data = sys.argv[1], sys.argv[1] + "/data"
options = ["--out", out, "--train", "4", "--val", "2", "--pictures", "1"]
options += ["--cfg-options", "train_cfg.max_epochs=1"]
print("first", tools.demo.main(options), flush=True)
print("again", tools.demo.main(options), flush=True)
arguments = ["ebm_second_demo.py", out + "/ebm/epoch_1.pth", "--min-score", "0"]
options = ["--cfg-options", f"data_root={data}", "model.test_cfg.score_thr=0.0"]
for frame in ("000005", data + "/training/velodyne_reduced/000004.bin", "000000"):
    code = tools.visualize.main([*arguments, "--frame", frame, "--out", out + "/drawn", *options])
    print("visualize", code, flush=True)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A demonstration on a few frames, run twice, then pictures of single frames."""
    out = tmp_path_factory.mktemp("demo") / "out"
    return out, run_python(_RUN, str(out), OMP_NUM_THREADS="1")


def test_summary_has_all_figures_before_and_after_and_the_seconds_of_each_stage(run):
    summary = json.loads((run[0] / "summary.json").read_text())
    assert list(summary) == ["before", "after", "seconds"]
    assert list(summary["seconds"]) == _STAGES
    for part in ("before", "after"):
        figures = summary[part]["Car"]
        for metric in ("3d", "bev"):
            for threshold in ("0.50", "0.70", "0.75", "0.80"):
                assert "ap_r40" in figures[metric][threshold]["moderate"]


def test_a_second_run_repeats_no_finished_stage(run):
    assert "first 0" in run[1]
    assert "again 0" in run[1]
    assert run[1].count("done before") == len(_STAGES)


def test_the_fullest_frame_a_frame_of_the_test_data_and_any_cloud_are_drawn(run):
    names = {path.suffix for path in (run[0] / "pictures").iterdir()}
    assert {".png", ".ply"} <= names
    for name in ("000005_bev.png", "000005_energy.png", "000005.ply", "000004_bev.png"):
        assert (run[0] / "drawn" / name).stat().st_size > 1000


def test_an_unknown_frame_is_answered_with_the_known_ones(run):
    assert "must be a frame of the config's test data (000004, 000005)" in run[1].replace("\n", " ")
    assert run[1].count("visualize 0") == 2
    assert run[1].count("visualize 1") == 1

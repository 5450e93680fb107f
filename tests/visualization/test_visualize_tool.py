"""What ``tools/visualize.py`` refuses before the model runs."""

from __future__ import annotations

import pytest

pytest.importorskip("mmdet3d")

from tools import visualize

pytestmark = pytest.mark.mmdet3d


@pytest.mark.parametrize("score", ["nan", "-0.1", "2", "high"])
def test_a_score_is_a_number_from_0_to_1(score, capsys):
    with pytest.raises(SystemExit):
        visualize.parse_args(["config", "checkpoint", "--min-score", score])
    assert "--min-score" in capsys.readouterr().err


@pytest.mark.parametrize(
    "sources",
    [["a/000001.bin", "b/000001.bin"], ["000001", "000001.npy"], ["1.pcd.bin", "x/1.ply"]],
)
def test_pictures_do_not_replace_each_other(sources):
    with pytest.raises(ValueError, match="--frame"):
        visualize._check_names(sources)
    visualize._check_names([sources[0], "000002.bin"])


def test_a_split_without_frames_is_said():
    with pytest.raises(ValueError, match="test data"):
        visualize._first_with_boxes([], lambda _: None, None)

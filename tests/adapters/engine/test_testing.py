"""The table of a test run, and what a test run refuses."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]


def figures(ap: float, overlap: float | None) -> dict[str, Any]:
    """A small tree in the layout of the metric."""
    values = {"0.70": {"moderate": {"ap_r40": ap, "ap_r11": ap}}}
    summary = {"moderate": {"mean_iou_3d": overlap, "mean_iou_bev": overlap}}
    return {"Car": {"3d": values, "bev": values, "localization": summary}}


def printed(tree: dict[str, Any]) -> list[list[str]]:
    """The cells of the table."""
    from ebm3d.adapters.engine import comparison_table

    console = Console(width=100, file=StringIO())
    console.print(comparison_table(tree))
    lines = console.file.getvalue().splitlines()
    return [line.replace("│", " ").split() for line in lines if "Car" in line]


def test_before_and_after_stand_beside_each_other_with_the_change() -> None:
    """Precision in percent, overlap as a fraction; a dash where there is no figure."""
    tree = {"before": figures(60.0, 0.7), "after": figures(65.5, 0.75)}
    measured = {"nll": {"mean": -1.25, "not_turned": -1.5}, "ece": {"mean": 0.031}, "qce": 0.052}
    tree["after"]["Car"]["calibration"] = {"moderate": measured}
    lines = printed(tree)
    assert lines[0][-3:] == ["60.000", "65.500", "+5.500"]
    assert lines[2][-3:] == ["0.700", "0.750", "+0.050"]
    assert [line[1].rstrip(",") for line in lines[-4:]] == ["NLL", "NLL", "ECE", "QCE"]
    values = ("-1.250", "-1.500", "0.031", "0.052")
    assert [line[-2:] for line in lines[-4:]] == [["-", value] for value in values]


def test_a_detector_without_refinement_has_one_column() -> None:
    lines = printed(figures(60.0, None))
    assert lines[0][-2:] == ["0.70", "60.000"]
    assert lines[2][-1] == "-"


def test_a_missing_checkpoint_and_another_metric_are_refused(tmp_path: Path) -> None:
    from ebm3d.adapters.engine import evaluate

    with pytest.raises(FileNotFoundError, match="checkpoint"):
        evaluate("second_kitti_cpu.py", tmp_path / "none.pth")
    (tmp_path / "some.pth").touch()
    options = {"test_evaluator.type": "KittiMetric"}
    with pytest.raises(ValueError, match="test_evaluator"):
        evaluate("second_kitti_cpu.py", tmp_path / "some.pth", cfg_options=options)

"""The table of a test run, and what a test run refuses."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]


def figures(ap: float, overlap: float) -> dict[str, Any]:
    """A small tree in the layout of the metric."""
    values = {"0.70": {"moderate": {"ap_r40": ap, "ap_r11": ap}}}
    summary = {"moderate": {"mean_iou_3d": overlap, "mean_iou_bev": overlap}}
    return {"Car": {"3d": values, "bev": values, "localization": summary}}


def printed(tree: dict[str, Any]) -> list[str]:
    """The lines of the table without their frame."""
    from ebm3d.adapters.engine import comparison_table

    console = Console(width=100, file=StringIO())
    console.print(comparison_table(tree))
    return [line for line in console.file.getvalue().splitlines() if "Car" in line]


def test_before_and_after_stand_beside_each_other_with_the_change() -> None:
    """Precision in percent, overlap as a fraction."""
    lines = printed({"before": figures(60.0, 0.7), "after": figures(65.5, 0.75)})
    assert lines[0].replace("│", " ").split()[-3:] == ["60.000", "65.500", "+5.500"]
    assert lines[2].replace("│", " ").split()[-3:] == ["0.700", "0.750", "+0.050"]


def test_one_set_of_figures_has_one_column() -> None:
    """A detector without refinement."""
    assert printed(figures(60.0, 0.7))[0].replace("│", " ").split()[-2:] == ["0.70", "60.000"]


def test_a_figure_that_is_not_there_is_a_dash() -> None:
    """No matched boxes, no overlap."""
    tree = figures(0.0, 0.0)
    tree["Car"]["localization"]["moderate"]["mean_iou_3d"] = None
    assert printed(tree)[2].replace("│", " ").split()[-1] == "-"


def test_densities_have_rows_where_there_are_some() -> None:
    """NLL, ECE and QCE; a dash for the boxes before refinement, which have no densities."""
    tree = {"before": figures(60.0, 0.7), "after": figures(65.5, 0.75)}
    measured = {"nll": {"mean": -1.25, "not_turned": -1.5}, "ece": {"mean": 0.031}, "qce": 0.052}
    tree["after"]["Car"]["calibration"] = {"moderate": measured}
    lines = [line.replace("│", " ").split() for line in printed(tree)[-4:]]
    assert [line[1].rstrip(",") for line in lines] == ["NLL", "NLL", "ECE", "QCE"]
    values = ("-1.250", "-1.500", "0.031", "0.052")
    assert [line[-2:] for line in lines] == [["-", value] for value in values]


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    """Before anything is built."""
    from ebm3d.adapters.engine import evaluate

    with pytest.raises(FileNotFoundError, match="checkpoint"):
        evaluate("second_kitti_cpu.py", tmp_path / "none.pth")


def test_another_metric_is_refused(tmp_path: Path) -> None:
    """The figures are those of the plugin's metric."""
    from ebm3d.adapters.engine import evaluate

    (tmp_path / "some.pth").touch()
    with pytest.raises(ValueError, match="test_evaluator"):
        evaluate(
            "second_kitti_cpu.py",
            tmp_path / "some.pth",
            cfg_options={"test_evaluator.type": "KittiMetric"},
        )


def test_a_checkpoint_must_hold_every_parameter(tmp_path: Path) -> None:
    """The host would go on with random ones; parameters named as optional may be missing."""
    from ebm3d.adapters.engine.testing import load_weights

    model = nn.ModuleDict({"detector": nn.Linear(2, 2), "refinement_head": nn.Linear(2, 2)})
    state = {k: v for k, v in model.state_dict().items() if k.startswith("detector")}
    torch.save({"state_dict": state}, tmp_path / "detector.pth")
    load_weights(model, tmp_path / "detector.pth", "refinement_head.")
    with pytest.raises(ValueError, match=r"without 2 of its parameters, first refinement_head"):
        load_weights(model, tmp_path / "detector.pth")


def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    """Not a bare KeyError of the unpickler."""
    from ebm3d.adapters.engine.testing import load_weights

    (tmp_path / "junk.pth").write_bytes(b"junk!")
    with pytest.raises(ValueError, match=r"junk\.pth must be a file that training saved"):
        load_weights(nn.Linear(2, 2), tmp_path / "junk.pth")

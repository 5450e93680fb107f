"""Figures of heads, as a tree, as tables, as a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mmdet3d")

from tests.adapters.engine.shifting import ShiftingHead, cars, frame

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]

THRESHOLDS = (0.5, 0.7)


def figures(ap: float, *, density: bool = True, **changes: Any) -> dict[str, Any]:
    """Figures of one seed, in the layout of :func:`figures_of`."""
    from ebm3d.adapters.engine.head_report import ERRORS

    values = {"0.50": ap, "0.70": ap / 2}
    tree: dict[str, Any] = {
        "ap_3d": values,
        "ap_3d_before": {"0.50": 40.0, "0.70": 20.0},
        "mean_iou_3d": 0.75,
        "errors": {e: math.radians(2.0) if e.startswith("yaw") else 0.125 for e in ERRORS},
        "parameters": 12345,
        "seconds": 0.0314,
    }
    if density:
        known = {"nll": {"mean": -1.5}, "ece": {"mean": 0.05}, "energy_score": 0.25}
        tree |= {"raw": known, "scaled": {**known, "nll": {"mean": -2.0}}}
    return {**tree, **changes}


def comparison(**heads: list[dict[str, Any]]) -> dict[str, Any]:
    """A comparison of heads, each with figures by seed."""
    return {"heads": {name: {"seeds": dict(enumerate(seeds))} for name, seeds in heads.items()}}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((1.26,), "1.3"),
        ((1.0, 4.0, 2.0), "2.0 (1.0 to 4.0)"),
        ((1.0, 2.0), "1.5 (1.0 to 2.0)"),
        ((1.01, 1.04), "1.0"),  # as printed, there is no range
        ((-1.0, -3.0), "-2.0 (-3.0 to -1.0)"),
    ],
)
def test_cell_is_the_median_with_the_range(values: tuple[float, ...], text: str):
    from ebm3d.adapters.engine.head_report import cell

    assert cell([{"a": {"b": v}} for v in values], ("a", "b"), 1) == text


def test_cell_is_in_its_unit():
    from ebm3d.adapters.engine.head_report import cell

    assert cell([{"s": 0.012}, {"s": 0.016}], ("s",), 0, 1e3) == "14 (12 to 16)"


@pytest.mark.parametrize("seeds", [[{}], [{"a": 1.0}, {}], [{}, {"a": 1.0}], [{"a": None}]])
def test_cell_is_a_dash_where_a_seed_has_no_figure(seeds: list[dict[str, Any]]):
    from ebm3d.adapters.engine.head_report import cell

    assert cell(seeds, ("a",), 1) == "-"


def test_rows_are_medians_over_the_seeds_in_meters_degrees_and_milliseconds():
    from ebm3d.adapters.engine.head_report import rows_of

    head, row = rows_of(comparison(ebm=[figures(60.0), figures(70.0)]), THRESHOLDS)
    assert dict(zip(head, row, strict=True)) == {
        "head": "ebm",
        "AP 0.50": "65.0 (60.0 to 70.0)",
        "AP 0.70": "32.5 (30.0 to 35.0)",
        "mean IoU": "0.750",
        **{f"{e}, m": "0.125" for e in ("along", "across", "vertical")},
        **{f"{e}, m": "0.125" for e in ("length", "width", "height")},
        "yaw_mod_pi, degrees": "2.00",
        "NLL": "-1.50",
        "NLL scaled": "-2.00",
        "ECE": "0.050",
        "ECE scaled": "0.050",
        "energy score": "0.250",
        "parameters": "12,345",
        "ms a frame": "31",
    }


def test_head_without_a_density_has_dashes_for_it():
    from ebm3d.adapters.engine.head_report import rows_of

    head, _, row = rows_of(
        comparison(ebm=[figures(60.0)], confidence=[figures(50.0, density=False)]), THRESHOLDS
    )
    found = dict(zip(head, row, strict=True))
    dashed = {name for name, text in found.items() if text == "-"}
    assert dashed == {"NLL", "NLL scaled", "ECE", "ECE scaled", "energy score"}


def test_markdown_has_every_column_once_in_three_tables_of_all_heads():
    from ebm3d.adapters.engine.head_report import markdown_of, rows_of

    rows = rows_of(comparison(ebm=[figures(60.0)], bel=[figures(50.0)]), THRESHOLDS)
    tables = markdown_of(rows, len(THRESHOLDS)).rstrip("\n").split("\n\n")
    cells = [
        [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines()]
        for table in tables
    ]
    assert [table[0][-1] for table in cells] == ["mean IoU", "yaw_mod_pi, degrees", "ms a frame"]
    for table in cells:
        assert table[1] == ["---"] * len(table[0])
        assert [line[0] for line in (table[0], *table[2:])] == ["head", "ebm", "bel"]
    for index, row in enumerate(rows):
        line = 0 if index == 0 else index + 1
        assert [c for table in cells for c in table[line][1:]] == row[1:]


@pytest.mark.parametrize("density", [True, False])
def test_picture_is_drawn_with_and_without_densities(tmp_path: Path, density: bool):
    from ebm3d.adapters.engine.head_report import draw_comparison

    path = tmp_path / "new" / "figure.png"
    heads = {"ebm": [figures(60.0, density=density)] * 2, "direct": [figures(55.0, density=False)]}
    draw_comparison(comparison(**heads), THRESHOLDS, path)
    assert path.read_bytes().startswith(b"\x89PNG")


def tree_of(iou: float) -> dict[str, Any]:
    """What the metric says of cars."""
    from ebm3d.adapters.engine.head_report import ERRORS

    ap = {"0.70": {"easy": {"ap_r40": 99.0}, "moderate": {"ap_r40": 100 * iou, "ap_r11": 1.0}}}
    errors = {e: {"mean_abs": iou / (i + 1), "mean": 9.0} for i, e in enumerate(ERRORS)}
    pairs = {"hard": {"mean_iou_3d": iou, "errors": errors}}
    return {"Car": {"3d": ap, "bev": ap, "localization_same_pairs": pairs}}


def found(monkeypatch: pytest.MonkeyPatch, head: ShiftingHead, temperature: Any) -> Any:
    """Figures of a head on two frames."""
    from ebm3d.adapters.engine import head_report
    from ebm3d.adapters.engine.head_evaluation import HeadRun, run_head

    tree = {"before": tree_of(0.4), "after": tree_of(0.8)}
    monkeypatch.setattr(head_report, "kitti_figures", lambda *_: tree)
    run = HeadRun()
    for name in "ab":
        run_head(head, frame(name, cars(10.0, 20.0)), run)
    run.seconds = [0.1, 0.3, 0.2]
    return head_report.figures_of(run, head, temperature, {}, None, (0.7,))


def test_figures_are_those_of_the_refined_boxes_beside_the_initial_ones(
    monkeypatch: pytest.MonkeyPatch,
):
    from ebm3d.adapters.engine.head_report import ERRORS

    tree = found(monkeypatch, ShiftingHead({"a": 0.1}, None), None)
    assert tree == {
        "ap_3d": {"0.70": 80.0},
        "ap_bev": {"0.70": 80.0},
        "ap_3d_before": {"0.70": 40.0},
        "mean_iou_3d": 0.8,
        "mean_iou_3d_before": 0.4,
        "errors": {e: 0.8 / (i + 1) for i, e in enumerate(ERRORS)},
        "parameters": 0,
        "seconds": 0.2,
    }


def test_density_has_figures_as_it_is_and_scaled_by_the_temperature(
    monkeypatch: pytest.MonkeyPatch,
):
    # Residuals of 0.1 along and of nothing else, in units of one, under a Gaussian.
    factors = [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    tree = found(monkeypatch, ShiftingHead({"a": 0.1}, 0.2), factors)
    for name, std in (("raw", 0.2), ("scaled", 0.1)):
        peak = 3.5 * math.log(2 * math.pi) + 6 * math.log(0.2) + math.log(std)
        sizes = math.log(4.0 * 2.0 * 1.5)
        expected = peak + sizes + 0.5 * (0.1 / std) ** 2
        assert tree[name]["nll"]["mean"] == pytest.approx(expected, abs=1e-5)


def test_density_without_a_temperature_has_no_scaled_figures(monkeypatch: pytest.MonkeyPatch):
    tree = found(monkeypatch, ShiftingHead({"a": 0.1}, 0.2), None)
    assert "raw" in tree
    assert "scaled" not in tree


def test_curves_are_left_out_of_the_figures(monkeypatch: pytest.MonkeyPatch):
    tree = found(monkeypatch, ShiftingHead({"a": 0.1}, 0.2), None)["raw"]
    assert not set(tree) & {"reliability", "pit_histogram", "coverage"}
    assert np.isfinite(tree["energy_score"])

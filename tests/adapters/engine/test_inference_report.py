"""Settings of inference side by side: what is fitted and chosen on which frames, and the tables."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

pytest.importorskip("mmdet3d")

from tests.adapters.engine.shifting import cars, instances
from tests.adapters.refined import REFINEMENT_HEAD, build_head

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]

THRESHOLDS = (0.7, 0.75)


def suppression() -> Any:
    """Of a dense head."""
    from mmengine.config import ConfigDict

    return ConfigDict({"nms_thr": 0.1, "max_num": 10, "use_rotate_nms": True})


def refined(**fields: Any) -> Any:
    """A run of one frame: two cars on top of each other and one alone, their f given."""
    from ebm3d.adapters.engine.inference_runs import InferenceRun

    shown = instances(
        cars(10.0, 10.2, 30.0),
        scores_3d=torch.tensor([0.6, 0.5, 0.4]),
        f_refined=torch.tensor([0.0, 2.0, 1.0]),
    )
    return InferenceRun([{"lidar_path": "a.bin", "pred_instances_3d": shown}], **fields)


def fusion_file(path: Path, *features: str) -> Path:
    """Weights of one, and no bias."""
    weights = dict.fromkeys(("logit", *features), 1.0) | {"bias": 0.0}
    path.write_text(json.dumps({"weights": weights, "alone": {"logit": 1.0, "bias": 0.0}}))
    return path


def metric_tree(ap: float, iou: float | None = 0.8) -> dict[str, Any]:
    """What the metric says of cars."""
    return {
        "Car": {
            "3d": {t: {"moderate": {"ap_r40": ap}} for t in ("0.70", "0.75")},
            "localization": {"moderate": {"mean_iou_3d": iou}},
            "scores": {"brier": 0.1, "ece": 0.02, "reliability": [1, 2]},
        }
    }


def test_every_row_is_of_a_setting_that_gives_its_features():
    from ebm3d.adapters.engine.inference_report import BEFORE_NMS, ROWS, settings_of
    from ebm3d.adapters.engine.inference_runs import DETECTOR

    settings = settings_of(build_head())
    for row in ROWS.values():
        if row.run == DETECTOR:
            assert not row.features
            continue
        assert set(row.features) <= {"f_refined", *settings[row.run].densities}
        assert settings[row.run].before_nms == (row.run in BEFORE_NMS)
    assert {row.run for row in ROWS.values()} == {DETECTOR, *settings}


def test_settings_name_the_same_attributes_which_the_head_has():
    # One is set after the other.
    from ebm3d.adapters.engine.head_selection import apply_settings
    from ebm3d.adapters.engine.inference_report import settings_of

    head = build_head()
    settings = settings_of(head)
    assert len({frozenset(setting.settings) for setting in settings.values()}) == 1
    for setting in settings.values():
        apply_settings(head, setting.settings)


def test_all_refiners_have_the_steps_and_limits_of_the_head():
    from ebm3d.adapters.engine.inference_report import settings_of

    head = build_head(refiner={**REFINEMENT_HEAD["refiner"], "step_decay": 0.7})
    for setting in settings_of(head).values():
        refiner = setting.settings["refiner"]
        refiner = getattr(refiner, "base", refiner)
        assert refiner.limits is head.refiner.limits
        for name in ("num_steps", "step_size", "step_decay"):
            assert getattr(refiner, name) == getattr(head.refiner, name)


@pytest.mark.parametrize("kind", ["GradientAscent", "QuasiNewtonAscent"])
def test_refiner_of_the_config_is_the_row_of_its_kind(kind: str):
    from ebm3d.adapters.engine.inference_report import settings_of

    head = build_head(refiner={**REFINEMENT_HEAD["refiner"], "type": kind})
    found = [setting.settings["refiner"] for setting in settings_of(head).values()]
    assert head.refiner in found
    assert {type(refiner).__name__ for refiner in found} == {
        "GradientAscent",
        "QuasiNewtonAscent",
        "MultiStart",
    }


def test_head_of_several_starts_and_one_without_a_refiner_are_refused():
    from ebm3d.adapters.engine.inference_report import settings_of

    starts = {
        "type": "MultiStart",
        "base": REFINEMENT_HEAD["refiner"],
        "noise_std": REFINEMENT_HEAD["noise"]["stds"],
    }
    with pytest.raises(ValueError, match=r"QuasiNewtonAscent.*but got MultiStart; name its base"):
        settings_of(build_head(refiner=starts))
    with pytest.raises(ValueError, match="SimpleNamespace without a refiner"):
        settings_of(SimpleNamespace())


def test_noise_whose_deviations_are_no_units_is_refused():
    from ebm3d.adapters.engine.inference_report import settings_of

    noise = {**REFINEMENT_HEAD["noise"], "axes": "world", "sizes": "metric"}
    with pytest.raises(ValueError, match="noise must be drawn along the axes of the box"):
        settings_of(build_head(noise=noise))


def test_scores_without_a_fusion_are_the_detectors():
    from ebm3d.adapters.engine.inference_report import Row, final_samples

    (plain,) = final_samples(refined(), Row("ascent"), None, suppression())
    assert plain["pred_instances_3d"].scores_3d.tolist() == pytest.approx([0.6, 0.5, 0.4])
    assert plain["lidar_path"] == "a.bin"


def test_fused_scores_leave_the_run_as_it_was(tmp_path: Path):
    from ebm3d.adapters.engine.inference_report import Row, final_samples

    run, file = refined(), fusion_file(tmp_path / "fusion.json", "f_refined")
    for _ in "ab":
        (fused,) = final_samples(run, Row("ascent", ("f_refined",)), file, suppression())
        expected = expit(logit([0.6, 0.5, 0.4]) + [0.0, 2.0, 1.0])
        np.testing.assert_allclose(fused["pred_instances_3d"].scores_3d, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("run", "fused", "along"),
    [
        ("ascent", False, [10.0, 10.2, 30.0]),
        ("ascent before NMS", False, [10.0, 30.0]),
        ("ascent before NMS", True, [10.2, 30.0]),  # fused scores decide
    ],
)
def test_boxes_are_suppressed_after_refinement_before_nms_alone(
    tmp_path: Path, run: str, fused: bool, along: list[float]
):
    from ebm3d.adapters.engine.inference_report import Row, final_samples

    file = fusion_file(tmp_path / "fusion.json", "f_refined") if fused else None
    (sample,) = final_samples(refined(), Row(run, ("f_refined",)), file, suppression())
    found = sample["pred_instances_3d"].bboxes_3d.tensor[:, 0]
    np.testing.assert_allclose(sorted(found.tolist()), along, rtol=1e-6)


def test_seconds_of_a_row_are_those_of_the_run_and_of_what_is_fused():
    from ebm3d.adapters.engine.inference_report import Row, figures_of_row

    run = refined(
        seconds=[1.0, 2.0, 9.0], density_seconds={"p": [0.1, 0.3, 0.2], "other": [7.0] * 3}
    )
    tree = metric_tree(60.0)["Car"]
    for features, seconds in (((), 2.0), (("f_refined",), 2.0), (("f_refined", "p"), 2.2)):
        figures = figures_of_row(tree, run, Row("ascent", features))
        assert figures["seconds"] == pytest.approx(seconds)
    assert figures["ap_3d"] == {"0.70": 60.0, "0.75": 60.0}
    assert figures["scores"] == {"brier": 0.1, "ece": 0.02}
    assert (figures["mean_iou_3d"], figures["reliability"]) == (0.8, [1, 2])


def table() -> dict[str, Any]:
    """A comparison of two rows and two seeds."""
    from ebm3d.adapters.engine.inference_report import Row, figures_of_row

    rows: dict[str, Any] = {}
    for name, ap in (("ascent", 60.0), ("mean", 50.0)):
        run = refined(seconds=[0.004 if name == "mean" else 0.012])
        rows[name] = {
            split: {
                seed: figures_of_row(metric_tree(ap + shift + seed)["Car"], run, Row(name))
                for seed in (0, 2)
            }
            for split, shift in (("selection", 0.0), ("validation", 10.0))
        }
    return {"rows": rows, "chosen": "ascent"}


def test_rows_are_medians_of_one_split_and_the_chosen_one_is_bold():
    from ebm3d.adapters.engine.inference_report import rows_of

    assert rows_of(table(), "validation", THRESHOLDS) == [
        ["inference", "AP 0.70", "AP 0.75", "mean IoU", "Brier", "ECE", "ms"],
        ["**ascent**", *["71.0 (70.0 to 72.0)"] * 2, "0.800", "0.100", "0.020", "12"],
        ["mean", *["61.0 (60.0 to 62.0)"] * 2, "0.800", "0.100", "0.020", "4"],
    ]
    assert rows_of(table(), "selection", THRESHOLDS)[2][1] == "51.0 (50.0 to 52.0)"


def test_figure_of_no_boxes_is_a_dash():
    from ebm3d.adapters.engine.inference_report import rows_of

    result = table()
    result["rows"]["mean"]["selection"][2]["mean_iou_3d"] = None
    assert rows_of(result, "selection", THRESHOLDS)[2][3] == "-"


def test_markdown_has_the_tables_of_both_splits():
    from ebm3d.adapters.engine.inference_report import markdown_of, rows_of

    text = markdown_of(table(), THRESHOLDS)
    first, head, second, other = text.rstrip("\n").split("\n\n")
    assert (first, second) == ("validation:", "selection:")
    for split, part in (("validation", head), ("selection", other)):
        lines = [[c.strip() for c in line.strip("|").split("|")] for line in part.splitlines()]
        rows = rows_of(table(), split, THRESHOLDS)
        assert lines == [rows[0], ["---"] * len(rows[0]), *rows[1:]]


class Comparison:
    """A comparison whose runs and figures are given, and what it asked for.

    Args:
        ap: of a row's features, split and seed.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ap: Callable[..., float]) -> None:
        from ebm3d.adapters.engine import inference_report as module

        self.module, self.ap = module, ap
        self.split, self.seed = "", -1
        self.refined: list[tuple[Any, ...]] = []
        self.fitted: list[tuple[str, int, tuple[str, ...]]] = []
        self.measured: list[tuple[str, int, float]] = []
        monkeypatch.setattr(module, "refined_frames", self._frames)
        monkeypatch.setattr(module, "kitti_figures", self._figures)

    def _frames(self, config: str, file: Path, kept: Path, root: str | None) -> Any:
        from ebm3d.adapters.engine.inference_report import ROWS

        self.refined.append((config, file.name, kept.name, root))
        self.split, self.seed = "selection" if root else "validation", int(file.stem)
        runs = {row.run: refined(seconds=[0.01]) for row in ROWS.values()}
        for run in runs.values():
            for name in ("log_p_sampled", "log_p_laplace"):
                run.samples[0]["pred_instances_3d"].set_field(torch.zeros(3), name)
        model = SimpleNamespace(test_cfg=suppression())
        return runs, [0.2, 0.4, 0.3], None, SimpleNamespace(model=model, test_evaluator={"a": 1})

    def _figures(self, run: Any, evaluator: Any, meta: Any, thresholds: Any) -> dict[str, Any]:
        fit = evaluator.get("score_fusion")
        if fit is not None:
            self.fitted.append((self.split, self.seed, fit["features"]))
            fusion_file(Path(fit["fit"]), *fit["features"])
            return {}
        best = float(run.samples[0]["pred_instances_3d"].scores_3d.max())
        self.measured.append((self.split, self.seed, best))
        return metric_tree(self.ap(best, self.split, self.seed))

    def __call__(self, folder: Path, seeds: tuple[int, ...] = (0, 1)) -> dict[str, Any]:
        files = {seed: Path(f"{seed}.pth") for seed in seeds}
        result: dict[str, Any] = self.module.compare_inference(
            "c.py", files, folder / "new", "design/", THRESHOLDS
        )
        return result


def test_fusions_are_fitted_on_the_selection_split_and_applied_to_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    from ebm3d.adapters.engine.inference_report import ROWS

    compare = Comparison(monkeypatch, lambda *_: 1.0)
    result = compare(tmp_path)
    fused = [row.features for row in ROWS.values() if row.features]
    assert compare.fitted == [("selection", seed, f) for seed in (0, 1) for f in fused]
    for split in ("selection", "validation"):
        best = [value for where, seed, value in compare.measured if (where, seed) == (split, 0)]
        for value, row in zip(best, ROWS.values(), strict=True):
            # Log densities are zero, f is two where the score is one half.
            expected = expit(2.0) if "f_refined" in row.features else 0.6
            assert value == pytest.approx(expected, rel=1e-6)
    for name, row in ROWS.items():
        entry = result["rows"][name]
        assert list(entry["fusion"]) == ([0, 1] if row.features else [])
        assert set(entry) == {"fusion", "selection", "validation"}
    assert result["detector_seconds"] == 0.3


def test_frames_of_every_seed_and_split_are_kept_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    compare = Comparison(monkeypatch, lambda *_: 1.0)
    compare(tmp_path)
    assert compare.refined == [
        ("c.py", f"{seed}.pth", f"refined_{split}_seed{seed}.pt", root)
        for seed in (0, 1)
        for split, root in (("selection", "design/"), ("validation", None))
    ]


def test_row_is_chosen_by_its_median_on_the_selection_split(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    # Rows with f in scores are better in selection, worse in validation, and in one seed.
    def ap(best: float, split: str, seed: int) -> float:
        better = (best > 0.7) == (split == "selection" and seed != 1)
        return 60.0 if better else 50.0

    result = Comparison(monkeypatch, ap)(tmp_path, (0, 1, 2))
    # Of equal ones the first.
    assert result["chosen"] == "ascent, f in scores"


def test_thresholds_without_the_one_to_choose_by_are_refused(tmp_path: Path):
    from ebm3d.adapters.engine.inference_report import compare_inference

    with pytest.raises(ValueError, match=r"thresholds must be 0\.75 and others, but got \(0\.7,"):
        compare_inference("c.py", {}, tmp_path, "design/", (0.7, 0.8))


@pytest.mark.parametrize(("newer", "again"), [("kept", False), ("checkpoint", True)])
def test_kept_boxes_are_read_unless_the_checkpoint_is_newer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, newer: str, again: bool
):
    from ebm3d.adapters.engine import inference_report as module

    kept, file = tmp_path / "kept.pt", tmp_path / "0.pth"
    torch.save(({"detector": "of before"}, [0.5]), kept)
    file.touch()
    os.utime(kept, (100, 100))
    os.utime(file, (50, 50) if newer == "kept" else (150, 150))
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo="meta"))
    model = SimpleNamespace(parameters=list)
    monkeypatch.setattr(module, "build_detector", lambda *_: (model, loader, "cfg"))
    monkeypatch.setattr(module, "load_heads", lambda *_: {("ebm", 0): build_head()})
    monkeypatch.setattr(module, "run_settings", lambda *_: ({"detector": "of now"}, [0.7]))
    for _ in "ab":
        runs, seconds, meta, cfg = module.refined_frames("c.py", file, kept, None)
        assert runs == {"detector": "of now" if again else "of before"}
        assert seconds == ([0.7] if again else [0.5])
        assert (meta, cfg) == ("meta", "cfg")

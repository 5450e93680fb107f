"""Trained heads side by side: their files, their settings, and what these are chosen by."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet3d")

from tests.adapters.engine.shifting import ShiftingHead, cars, frame

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]

CPU = torch.device("cpu")
PREFIX = "bbox_head.refinement_head."
GAUSSIAN = "second_stage/gaussian_second_simulated_cpu.py"
BEL = "second_stage/bel_second_simulated_cpu.py"


def frames() -> list[Any]:
    """Three frames, of which one is empty."""
    many = cars(*(5.0 + 5 * i for i in range(12)))
    return [frame(name, t) for name, t in zip("abc", (cars(10.0, 20.0), cars(), many), strict=True)]


def modes(*names: str) -> Any:
    """A contestant whose mode is chosen."""
    from ebm3d.adapters.engine.head_selection import Contestant

    return Contestant("none.py", tuple({"mover.mode": name} for name in names))


def detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let loaders hold frames that the detector has seen."""
    from ebm3d.adapters.engine import head_selection

    monkeypatch.setattr(head_selection, "detect_frames", lambda model, loader: iter(loader))


def iou_left(left: float) -> float:
    """IoU of cars that are short by so many meters."""
    return (4 - left) / (4 + left)


def saved(path: Path, config: str) -> dict[str, Any]:
    """Parameters of a head built from a config, and a file with them beside the detector's."""
    from mmdet3d.registry import MODELS

    from ebm3d.adapters.engine import load_settings

    head = MODELS.build(load_settings(config).model.bbox_head.refinement_head)
    state: dict[str, Any] = {name: torch.rand_like(v) for name, v in head.state_dict().items()}
    kept = {PREFIX + name: value for name, value in state.items()}
    torch.save({"state_dict": {**kept, "backbone.weight": torch.zeros(2)}}, path)
    return state


def test_settings_reach_nested_attributes():
    from ebm3d.adapters.engine.head_selection import apply_settings

    head = SimpleNamespace(num_iterations=1, refiner=SimpleNamespace(base=SimpleNamespace(step=1)))
    apply_settings(head, {"num_iterations": 3, "refiner.base.step": 0.5})
    assert (head.num_iterations, head.refiner.base.step) == (3, 0.5)


@pytest.mark.parametrize("name", ["mood", "mover.mood", "movers.mode"])
def test_setting_of_no_attribute_is_named(name: str):
    from ebm3d.adapters.engine.head_selection import apply_settings

    message = f"setting {name} must be an attribute of the head, a ShiftingHead.* no attribute"
    with pytest.raises(ValueError, match=message):
        apply_settings(ShiftingHead({"a": 0.0}), {name: "a"})


@pytest.mark.parametrize("choices", [(), ({"a": 1}, {"b": 1}), ({}, {"a": 1})])
def test_choices_of_different_attributes_are_refused(choices: tuple[dict[str, Any], ...]):
    from ebm3d.adapters.engine.head_selection import Contestant

    with pytest.raises(ValueError, match="choices must be one or more, of the same attributes"):
        Contestant("none.py", choices)


def test_heads_have_the_parameters_of_their_files(tmp_path: Path):
    from ebm3d.adapters.engine.head_selection import Contestant, load_heads

    state = saved(tmp_path / "head.pth", GAUSSIAN)
    heads = load_heads({"g": Contestant(GAUSSIAN)}, {("g", 4): tmp_path / "head.pth"}, CPU)
    ((key, head),) = heads.items()
    assert key == ("g", 4)
    assert not head.training
    assert all(torch.equal(value, state[name]) for name, value in head.state_dict().items())


def test_file_without_a_head_is_refused(tmp_path: Path):
    from ebm3d.adapters.engine.head_selection import Contestant, load_heads

    file = tmp_path / "detector.pth"
    torch.save({"state_dict": {"backbone.weight": torch.zeros(2)}}, file)
    message = r"detector\.pth must be of the refinement head of .*gaussian.* without a refinement"
    with pytest.raises(ValueError, match=message):
        load_heads({"g": Contestant(GAUSSIAN)}, {("g", 0): file}, CPU)


def test_file_of_another_head_is_refused(tmp_path: Path):
    from ebm3d.adapters.engine.head_selection import Contestant, load_heads

    saved(tmp_path / "bel.pth", BEL)
    message = r"bel\.pth must be .*gaussian.* differs in \d+ parameters, first network.*; train g,"
    with pytest.raises(ValueError, match=message):
        load_heads({"g": Contestant(GAUSSIAN)}, {("g", 0): tmp_path / "bel.pth"}, CPU)


def test_file_that_is_no_checkpoint_is_refused(tmp_path: Path):
    from ebm3d.adapters.engine.head_selection import Contestant, load_heads

    (tmp_path / "junk.pth").write_bytes(b"junk!")
    with pytest.raises(ValueError, match=r"junk\.pth must be a file that training saved"):
        load_heads({"g": Contestant(GAUSSIAN)}, {("g", 0): tmp_path / "junk.pth"}, CPU)


def test_choice_has_the_best_mean_over_seeds(monkeypatch: pytest.MonkeyPatch):
    # The first seed is best with "far", and its best is the best of all.
    from ebm3d.adapters.engine.head_selection import choose

    detected(monkeypatch)
    heads = {
        ("h", 0): ShiftingHead({"far": 0.0, "near": 0.3, "none": 0.9}),
        ("h", 1): ShiftingHead({"far": 1.0, "near": 0.3, "none": 0.9}),
    }
    chosen = choose(None, frames(), heads, {"h": modes("far", "near", "none")})["h"]
    assert chosen["settings"] == {"mover.mode": "near"}
    assert {head.mover.mode for head in heads.values()} == {"near"}
    assert [entry["mover.mode"] for entry in chosen["tried"]] == ["far", "near", "none"]
    expected = [(1 + iou_left(1.0)) / 2, iou_left(0.3), iou_left(0.9)]
    np.testing.assert_allclose([e["mean_iou_3d"] for e in chosen["tried"]], expected, atol=1e-6)


def test_of_equal_choices_the_first_is_taken(monkeypatch: pytest.MonkeyPatch):
    from ebm3d.adapters.engine.head_selection import choose

    detected(monkeypatch)
    heads = {("h", 0): ShiftingHead({"a": 0.9, "b": 0.2, "c": 0.2})}
    chosen = choose(None, frames(), heads, {"h": modes("a", "b", "c")})["h"]
    assert chosen["settings"] == {"mover.mode": "b"}


def test_temperatures_are_those_of_each_seed_with_the_chosen_setting(
    monkeypatch: pytest.MonkeyPatch,
):
    from ebm3d.adapters.engine.head_evaluation import HeadRun, fit_run_temperature, run_head
    from ebm3d.adapters.engine.head_selection import choose

    detected(monkeypatch)
    heads = {
        ("h", seed): ShiftingHead({"good": 0.3, "bad": 0.9}, std)
        for seed, std in ((3, 0.1), (5, 0.2))
    }
    found = choose(None, frames(), heads, {"h": modes("good", "bad")})["h"]["temperature"]
    assert list(found) == [3, 5]
    for (_, seed), head in heads.items():
        run = HeadRun()
        for one in frames():
            run_head(head, one, run)
        np.testing.assert_allclose(found[seed], fit_run_temperature(run))
    # All residuals along are 0.3: as wide as that, however wide the head said.
    np.testing.assert_allclose(found[3][0] / found[5][0], 2, rtol=1e-2)


def test_head_without_a_density_has_no_temperature(monkeypatch: pytest.MonkeyPatch):
    from ebm3d.adapters.engine.head_selection import choose

    detected(monkeypatch)
    chosen = choose(None, frames(), {("h", 0): ShiftingHead({"a": 0.1}, None)}, {"h": modes("a")})
    assert chosen["h"]["temperature"] == {0: None}


def test_frames_without_pairs_are_refused(monkeypatch: pytest.MonkeyPatch):
    from ebm3d.adapters.engine.head_selection import choose

    detected(monkeypatch)
    with pytest.raises(ValueError, match=r"selection-data must be frames in which .* got 1 frames"):
        choose(None, frames()[1:2], {("h", 0): ShiftingHead({"a": 0.1})}, {"h": modes("a")})


def written(path: Path, **settings: dict[str, Any]) -> Path:
    """The JSON of a comparison that chose settings."""
    heads = {name: {"chosen": {"settings": own}} for name, own in settings.items()}
    path.write_text(json.dumps({"heads": heads}))
    return path


def test_settings_of_another_comparison_are_applied_without_its_temperatures(tmp_path: Path):
    from ebm3d.adapters.engine.head_selection import read_choice

    heads = {("h", seed): ShiftingHead({"a": 0.0, "b": 0.0}) for seed in (0, 1)}
    file = written(tmp_path / "figures.json", h={"mover.mode": "b"}, other={"mood": 1})
    expected = {"h": {"settings": {"mover.mode": "b"}, "tried": [], "temperature": {}}}
    assert read_choice(file, heads) == expected
    assert [head.mover.mode for head in heads.values()] == ["b", "b"]


def test_comparison_without_a_head_is_refused(tmp_path: Path):
    from ebm3d.adapters.engine.head_selection import read_choice

    file = written(tmp_path / "figures.json", gaussian={}, bel={})
    heads = {(name, 0): ShiftingHead({"a": 0.0}) for name in ("gaussian", "snl", "dsm")}
    message = r"figures\.json must be of a comparison with snl, dsm, but got one with gaussian, bel"
    with pytest.raises(ValueError, match=f"{message}; choose settings on --selection-data"):
        read_choice(file, heads)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"heads": {"h": {}}}', '{"heads": 3}'])
def test_file_of_something_else_is_refused(tmp_path: Path, text: str):
    from ebm3d.adapters.engine.head_selection import read_choice

    (tmp_path / "other.json").write_text(text)
    with pytest.raises(ValueError, match=r"other\.json must be what a comparison of heads wrote"):
        read_choice(tmp_path / "other.json", {("h", 0): ShiftingHead({"a": 0.0})})


def compared(monkeypatch: pytest.MonkeyPatch, selection: str | Path) -> tuple[Any, list[Any]]:
    """What a comparison of one head gives, and of which folders it built a detector."""
    from ebm3d.adapters.engine import head_selection

    detected(monkeypatch)
    heads = {("h", 0): ShiftingHead({"a": 0.6, "b": 0.3})}
    # In validation "a" would be the better one.
    validation = [frame("000009", cars(10.0), cars(9.6))]
    meta, roots = SimpleNamespace(metainfo="of the data"), []

    class Loader(list):
        dataset = meta

    def build(config: Any, file: Any, work_dir: Any, root: Any) -> Any:
        roots.append(root)
        cfg = SimpleNamespace(test_evaluator="of the config")
        model = SimpleNamespace(parameters=list)
        return model, Loader(frames() if root else validation), cfg

    monkeypatch.setattr(head_selection, "load_heads", lambda *_: heads)
    monkeypatch.setattr(head_selection, "build_detector", build)
    monkeypatch.setattr(head_selection, "figures_of", lambda run, *rest: (run.frame_ids, *rest))
    files = {("h", 0): Path("h.pth")}
    result = head_selection.compare_heads(
        {"h": modes("a", "b")}, files, Path("work"), selection, (0.7,)
    )
    return result, roots


def test_comparison_chooses_on_one_set_of_frames_and_measures_on_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    result, roots = compared(monkeypatch, tmp_path)
    assert roots == [None, f"{tmp_path}/"]
    assert result["detector_seconds"] == 0.25
    entry = result["heads"]["h"]
    assert entry["chosen"]["settings"] == {"mover.mode": "b"}
    frame_ids, head, temperature, evaluator, meta, thresholds = entry["seeds"][0]
    assert frame_ids == ["000009"]
    assert head.mover.mode == "b"
    assert temperature == entry["chosen"]["temperature"][0]
    assert (evaluator, meta, thresholds) == ("of the config", "of the data", (0.7,))


def test_comparison_with_settings_of_another_sees_no_frames_to_choose_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    result, roots = compared(monkeypatch, written(tmp_path / "f.json", h={"mover.mode": "a"}))
    assert roots == [None]
    frame_ids, head, temperature, *_ = result["heads"]["h"]["seeds"][0]
    assert (frame_ids, head.mover.mode, temperature) == (["000009"], "a", None)

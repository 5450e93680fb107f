from __future__ import annotations

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ebm3d.benchmarks.regression_1d import PROBLEMS, Budget, make_methods, model_seeds, train
from ebm3d.benchmarks.regression_1d.evaluation import grid
from ebm3d.benchmarks.regression_1d.method import Schedule
from ebm3d.benchmarks.regression_1d.report import figures_of, markdown_table, summarize, table_rows
from ebm3d.benchmarks.regression_1d.runs import Run, run_method
from ebm3d.benchmarks.regression_1d.speed import measure_speed

_TOOL = Path(__file__).resolve().parents[3] / "tools" / "benchmarks" / "regression_1d.py"


@pytest.mark.parametrize("name", ["nce", "dsm", "ml_mcmc"])
def test_compiled_training_is_training_in_plain_torch(name: str):
    x, y = PROBLEMS["set1"].sample(48)
    method = replace(make_methods("set1")[name], num_samples=20)
    compiled, plain = (
        train(replace(method, compiled=c), x, y, [0, 1], Budget(2, 16)) for c in (True, False)
    )
    torch.testing.assert_close(compiled.losses, plain.losses, rtol=1e-4, atol=1e-4)
    # Densities, not parameters: a constant added to f is left to rounding.
    with torch.no_grad():
        ours, others = (
            method.log_density(part.models, name, grid(5), grid(17)).log_softmax(-1)
            for part in (compiled, plain)
        )
    torch.testing.assert_close(ours, others, rtol=1e-3, atol=1e-3)


def test_averaging_evaluates_the_mean_of_the_last_parameters():
    x, y = PROBLEMS["set2"].sample(32)
    method = make_methods("set2")["gaussian"]
    averaged = replace(method, schedule=Schedule(averaging=0.5))
    last = [
        torch.nn.utils.parameters_to_vector(
            train(method, x, y, [0], Budget(n, 32)).models.parameters()
        )
        for n in (1, 2, 3)
    ]
    start = torch.nn.utils.parameters_to_vector(
        train(replace(method, schedule=Schedule(learning_rate=0.0)), x, y, [0], Budget(1, 32))
        .models.parameters()
    )  # fmt: skip
    # Decays (1 + t) / (10 + t) after steps t = 1, 2, 3: 2/11, 3/12, 4/13.
    expected = start
    for decay, parameters in zip((2 / 11, 3 / 12, 4 / 13), last, strict=True):
        expected = decay * expected + (1 - decay) * parameters
    models = train(averaged, x, y, [0], Budget(3, 32)).models
    found = torch.nn.utils.parameters_to_vector(models.parameters())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_cosine_schedule_ends_at_rest():
    x, y = PROBLEMS["set2"].sample(32)
    method = make_methods("set2")["gaussian"]
    annealed = replace(method, schedule=Schedule(learning_rate=1e-2, cosine=True))
    # The rates of two steps are 1 and 1/2 of the first; Adam's first step is of the rate's size.
    one = train(annealed, x, y, [0], Budget(1, 32)).models
    fixed = train(replace(method, schedule=Schedule(1e-2)), x, y, [0], Budget(1, 32)).models
    two = train(annealed, x, y, [0], Budget(2, 32)).models
    for a, b, c in zip(one.parameters(), fixed.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
        assert float((c - a).detach().abs().max()) <= 0.51e-2 * 1.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": []}, "seeds must be at least 1, but got 0"),
        ({"budget": Budget(0)}, "num_epochs must be at least 1, but got 0"),
        ({"x": torch.zeros(0), "y": torch.zeros(0)}, "x must be at least 1"),
        ({"y": torch.zeros(3)}, "y must have shape"),
    ],
)
def test_nothing_to_train_is_refused(change: dict, message: str):
    arguments = {"x": torch.zeros(4), "y": torch.zeros(4), "seeds": [0], "budget": None} | change
    with pytest.raises(ValueError, match=message):
        train(make_methods("set1")["gaussian"], **arguments)


@pytest.fixture
def run() -> Run:
    method = make_methods("set1")["gaussian"]
    return run_method(PROBLEMS["set1"], method, [0, 1], Budget(1), num_points=64, grid_size=64)


def test_a_run_survives_its_file(run: Run, tmp_path: Path):
    run.save(tmp_path / "run.npz")
    again = Run.load(tmp_path / "run.npz")
    assert (again.settings, again.seeds, again.seconds) == (run.settings, run.seeds, run.seconds)
    np.testing.assert_array_equal(again.kl["gaussian"], run.kl["gaussian"])
    np.testing.assert_array_equal(again.pictures["gaussian"], run.pictures["gaussian"])


def test_models_can_be_added_to_a_run(run: Run):
    method = make_methods("set1")["gaussian"]
    parts = [
        run_method(PROBLEMS["set1"], method, [s], Budget(1), num_points=64, grid_size=64)
        for s in (0, 1)
    ]
    joined = parts[0].joined(parts[1])
    assert joined.seeds == run.seeds
    np.testing.assert_allclose(joined.kl["gaussian"], run.kl["gaussian"], rtol=1e-4)
    with pytest.raises(ValueError, match="seeds must be other than"):
        joined.joined(parts[1])
    with pytest.raises(ValueError, match="settings must be"):
        joined.joined(replace(parts[1], settings={}, seeds=(7,)))


def test_the_table_holds_the_figures(run: Run):
    kl = np.array([0.5, 0.1, 0.2, 0.3, 0.4, 0.9])
    one = replace(run, seeds=tuple(range(6)), seconds=12.0, kl={"gaussian": kl})
    figures = figures_of({("set1", "gaussian"): one})
    assert figures["set1"]["gaussian"]["best5"] == pytest.approx(0.3)
    (row,) = table_rows(figures)
    # Mean 0.4; squares of the deviations sum to 0.4, so that the deviation is sqrt(0.4 / 5).
    assert row == ["Gaussian", "6", "0.400 ± 0.283", "0.300", "", "", "", "", "2.0"]
    assert markdown_table([row]).splitlines()[2].startswith("| Gaussian | 6 | 0.400 ± 0.283 |")


def test_speed_is_measured_for_every_way_of_training():
    found = measure_speed(batches=(2,), num_epochs=1, num_points=8)
    assert [(entry["way"].split(",")[0], entry["models"]) for entry in found] == [
        ("one by one", 1), ("at once", 2), ("one by one", 1), ("at once", 2),
    ]  # fmt: skip
    assert all(entry["seconds_per_model"] > 0 for entry in found)


def test_seeds_of_more_models_begin_with_those_of_fewer():
    assert model_seeds(2, 7)[:3] == model_seeds(2, 3)
    assert not set(model_seeds(0, 20)) & set(model_seeds(1, 20))


def test_the_command_writes_its_files_and_adds_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    paths = {name: tmp_path / f"found.{name}" for name in ("json", "md", "png")}
    arguments = [
        "--methods", "gaussian", "--epochs", "1", "--points", "32",
        "--work-dir", str(tmp_path / "runs"), "--json", str(paths["json"]),
        "--markdown", str(paths["md"]), "--threads", str(torch.get_num_threads()),
    ]  # fmt: skip

    def run(*more: str) -> None:
        monkeypatch.setattr(sys, "argv", [_TOOL.name, *arguments, *more])
        runpy.run_path(str(_TOOL), run_name="__main__")

    run("--models", "1")
    run("--models", "2", "--figure", str(paths["png"]))
    assert json.loads(paths["json"].read_text())["results"]["set2"]["gaussian"]["models"] == 2
    assert "| Gaussian | 2 |" in paths["md"].read_text()
    assert paths["png"].read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit, match="choose another --work-dir"):
        run("--epochs", "2")


def test_models_that_diverged_are_counted_and_left_out_of_the_mean():
    found = summarize([0.1, float("nan"), 0.3])
    assert found == pytest.approx({"mean": 0.2, "std": 0.2 / 2**0.5, "best5": 0.2, "diverged": 1})
    assert summarize([float("inf")])["mean"] is None


def test_files_that_hold_no_run_are_refused_by_name(tmp_path: Path):
    kl = {"nce": np.zeros(2)}
    pictures = {"nce": np.zeros((2, 3, 3), dtype=np.float16)}
    whole, broken = tmp_path / "whole.npz", tmp_path / "broken.npz"
    Run({"num_epochs": 1}, (0, 1), 1.0, kl, pictures).save(whole)
    content = whole.read_bytes()
    np.savez(tmp_path / "other.npz", seeds=(0, 1))
    Run({"num_epochs": 1}, (0, 1, 2), 1.0, kl, pictures).save(tmp_path / "longer.npz")
    for bad in (b"", content[: len(content) // 2], b"no archive"):
        broken.write_bytes(bad)
        with pytest.raises(ValueError, match=r"broken\.npz must be one that this benchmark wrote"):
            Run.load(broken)
    for name in ("other.npz", "longer.npz"):
        with pytest.raises(ValueError, match=rf"{name} must be .* remove it"):
            Run.load(tmp_path / name)

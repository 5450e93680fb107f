"""What the scripts make of figures: medians, tables, JSON, and the density of an energy."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from _report import ratio, spread, take_turns, write_json

from ebm3d.noise import BoxNoise


def test_stages_take_turns_after_their_warm_up():
    calls: list[str] = []
    stages = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = take_turns(stages, 2, warm_up=1)
    assert "".join(calls) == "ababab"
    assert [len(seconds[kind][name]) for kind in seconds for name in "ab"] == [2] * 4


def test_spreads_and_ratios_are_medians():
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "lowest": 1.0, "highest": 3.0}
    assert ratio([2.0, 6.0, 3.0], [1.0, 2.0, 3.0]) == 2.0


def test_figures_survive_their_file_in_five_digits_and_a_row_a_line(tmp_path: Path):
    rows = {f"case {i}": {"value": i / 3, "kl": [i / 7] * 30} for i in range(3)}
    write_json(tmp_path / "new" / "f.json", {"rows": rows})
    text = (tmp_path / "new" / "f.json").read_text()
    assert len(text.splitlines()) == 7
    assert json.loads(text)["rows"]["case 1"]["value"] == 0.33333


def test_the_density_of_a_gaussian_energy_is_normalized_whatever_its_constant():
    pytest.importorskip("mmdet3d")
    from energy_nll import Pairs

    std = torch.tensor([0.2, 0.1, 0.1, 0.3, 0.1, 0.1, 0.05])
    box = torch.tensor([[10.0, 2.0, -1.7, 4.0, 1.7, 1.5, 0.0]])
    noise = BoxNoise([[0.2, 0.1, 0.1, 0.08, 0.06, 0.07, 0.05]], multipliers=(1.0,))
    pairs = Pairs()
    generator = torch.Generator().manual_seed(0)
    truths = box + std * torch.randn(64, 7, generator=generator)
    for truth in truths:
        flipped = truth + torch.tensor([0, 0, 0, 0, 0, 0, math.pi])
        pairs.add(
            lambda b: 5.0 - 0.5 * ((b - box) / std).square().sum(-1), box, flipped[None], noise, 512
        )
    normal = torch.distributions.Normal(box, std)
    expected = -normal.log_prob(truths).sum(1).mean()
    assert pairs.nll() == pytest.approx(float(expected), abs=0.1)
    assert pairs.ece() < 0.08
    assert pairs.nll(4.0) > pairs.nll()

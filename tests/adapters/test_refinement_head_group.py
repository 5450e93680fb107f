from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("mmdet3d")

from tests.adapters.refined import REFINEMENT_HEAD, build_frames
from tests.adapters.regressed import REGRESSION_HEAD, losses_of, refined_by

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]

_HEADS: dict[str, dict[str, Any]] = {
    "ebm": REFINEMENT_HEAD,
    "gaussian": REGRESSION_HEAD,
    "rlel": {**REGRESSION_HEAD, "regression": {"type": "RLELBoxRegression"}},
}


def _build(names: tuple[str, ...] = ("ebm", "gaussian", "rlel"), **options: Any) -> Any:
    from mmdet3d.registry import MODELS

    torch.manual_seed(5)
    heads = {name: _HEADS[name] for name in names}
    return MODELS.build({"type": "RefinementHeadGroup", "heads": heads, **options})


def _gradients(losses: dict[str, Any]) -> None:
    sum(value for name, value in losses.items() if "loss" in name).backward()


@pytest.mark.parametrize("name", _HEADS)
def test_head_learns_among_others_as_it_does_alone(name: str):
    together, alone, frames = _build(), _build((name,)), build_frames()
    for key, value in alone.heads[name].state_dict().items():
        assert torch.equal(together.heads[name].state_dict()[key], value), key
    optimizers = [torch.optim.Adam(group.parameters(), lr=1e-2) for group in (together, alone)]
    for step in range(2):
        own = losses_of(alone, frames, seed=step)
        every = losses_of(together, frames, seed=step)
        for term, value in own.items():
            assert torch.equal(every[term], value), term
        for optimizer, losses in zip(optimizers, (every, own), strict=True):
            optimizer.zero_grad()
            _gradients(losses)
            optimizer.step()
    for key, parameter in alone.heads[name].named_parameters():
        found = dict(together.heads[name].named_parameters())[key]
        torch.testing.assert_close(found.grad, parameter.grad)
        torch.testing.assert_close(found, parameter)


def test_heads_of_equal_shape_start_from_the_same_weights():
    from mmdet3d.registry import MODELS

    pair = {"first": REGRESSION_HEAD, "second": REGRESSION_HEAD}
    group = MODELS.build({"type": "RefinementHeadGroup", "heads": pair})
    for first, second in zip(
        group.heads["first"].parameters(), group.heads["second"].parameters(), strict=True
    ):
        assert torch.equal(first, second)
        assert first is not second
    losses = losses_of(group, build_frames())
    assert torch.equal(losses["first.loss_regression"], losses["second.loss_regression"])


def test_heads_see_the_noise_they_see_alone_whatever_the_others_draw():
    frames, group = build_frames(), _build(("gaussian",))
    torch.manual_seed(9)
    seed = int(torch.randint(2**62, ()))
    expected = losses_of(group.heads["gaussian"], frames, seed=seed)["loss_regression"]
    found = losses_of(group, frames, seed=9)["gaussian.loss_regression"]
    assert torch.equal(found, expected)


def test_every_step_draws_other_noise():
    frames, group = build_frames(), _build(("gaussian",))
    first = losses_of(group, frames)["gaussian.loss_regression"]
    assert not torch.equal(losses_of(group, frames, seed=None)["gaussian.loss_regression"], first)


def test_losses_carry_the_name_of_their_head():
    losses = losses_of(_build(), build_frames())
    assert {name.split(".")[0] for name in losses} == set(_HEADS)
    assert {"ebm.loss_ebm", "ebm.ebm_rank_first", "rlel.loss_regression"} <= set(losses)


def test_no_head_trains_another():
    group = _build()
    losses = losses_of(group, build_frames())
    losses["gaussian.loss_regression"].backward()
    for name, head in group.heads.items():
        assert all((p.grad is not None) == (name == "gaussian") for p in head.parameters())


@pytest.mark.parametrize(("selected", "expected"), [(None, "ebm"), ("gaussian", "gaussian")])
def test_the_selected_head_refines_and_the_first_one_unless_told(
    selected: str | None, expected: str
):
    group, frames = _build(selected=selected), build_frames()
    wanted = refined_by(group.heads[expected], frames)
    for found, other in zip(refined_by(group, frames), wanted, strict=True):
        assert set(found) == set(other)
        assert torch.equal(found["boxes"], other["boxes"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": {}}, "heads must be at least one"),
        ({"heads": {"a.b": REGRESSION_HEAD}}, "names without dots"),
        ({"selected": "propel"}, "selected must be one of gaussian"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        _build(("gaussian",), **options)


_SECOND_STAGE = "second_stage/{}_second_simulated_cpu.py"


def _settings(folder: Path, *names: str, **options: Any) -> Any:
    from ebm3d.adapters.engine.head_comparison import group_settings

    configs = {name: _SECOND_STAGE.format(name) for name in names}
    return group_settings(configs, folder, **options)


def test_settings_of_a_group_hold_every_head_of_its_config(tmp_path: Path):
    from ebm3d.adapters.engine import load_settings

    cfg = _settings(tmp_path, "gaussian", "confidence", seed=7)
    head = cfg.model.bbox_head.refinement_head
    assert head.type == "RefinementHeadGroup"
    for name in ("gaussian", "confidence"):
        alone = load_settings(_SECOND_STAGE.format(name))
        assert head.heads[name] == alone.model.bbox_head.refinement_head
    assert cfg.optim_wrapper.type == "GroupwiseClipOptimWrapper"
    assert cfg.optim_wrapper.constructor == "HeadwiseOptimWrapperConstructor"
    assert (cfg.work_dir, cfg.randomness.seed) == (str(tmp_path), 7)


def test_configs_of_another_detector_or_schedule_are_refused(tmp_path: Path):
    from ebm3d.adapters.engine.head_comparison import group_settings

    configs = {
        "gaussian": _SECOND_STAGE.format("gaussian"),
        "other": "second_stage/gaussian_pointpillars_simulated_cpu.py",
    }
    with pytest.raises(ValueError, match="model of other must be that of gaussian"):
        group_settings(configs, tmp_path)
    slow = tmp_path / "slow.py"
    base = Path(__file__).parents[2] / "configs" / configs["gaussian"]
    slow.write_text(f"_base_ = [{str(base)!r}]\ntrain_cfg = dict(max_epochs=77)\n")
    with pytest.raises(ValueError, match="train_cfg of other must be that of gaussian"):
        group_settings({**configs, "other": slow}, tmp_path)


def test_training_leaves_a_checkpoint_for_the_config_of_each_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from types import SimpleNamespace

    from mmengine.runner import Runner
    from torch import nn

    from ebm3d.adapters.engine import head_comparison

    class Detector(nn.Module):
        """What the checkpoints of a detector with such a head hold."""

        def __init__(self, refinement_head: nn.Module) -> None:
            super().__init__()
            self.backbone = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
            self.bbox_head = nn.Module()
            self.bbox_head.dense_head = nn.Linear(2, 2)
            self.bbox_head.refinement_head = refinement_head

    group = _build(("ebm", "gaussian"))
    detector = Detector(group)
    trained: list[Any] = []
    runner = SimpleNamespace(model=detector, seed=3, train=lambda: trained.append(True))
    monkeypatch.setattr(Runner, "from_cfg", lambda cfg: runner)
    cfg = _settings(tmp_path, "gaussian")
    cfg.model.bbox_head.refinement_head.heads = {name: {} for name in group.heads}
    files = head_comparison.train_heads(cfg)
    assert trained == [True]
    assert cfg.val_cfg is None
    assert list(files) == ["ebm", "gaussian"]
    for name, file in files.items():
        assert file == tmp_path / f"{name}.pth"
        state = torch.load(file, weights_only=False)["state_dict"]
        alone = Detector(_build((name,)).heads[name])
        alone.load_state_dict(state, strict=True)
        assert torch.equal(alone.backbone[0].weight, detector.backbone[0].weight)
        assert torch.equal(alone.bbox_head.dense_head.bias, detector.bbox_head.dense_head.bias)
        for key, value in alone.bbox_head.refinement_head.state_dict().items():
            assert torch.equal(value, group.heads[name].state_dict()[key])

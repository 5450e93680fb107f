"""One optimizer for heads that are trained side by side."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]

_OPTIMIZER = {"type": "AdamW", "lr": 0.1, "weight_decay": 0.01}
_CLIP = {"max_norm": 0.5}


class _Head(nn.Module):
    """Named heads, as a :class:`RefinementHeadGroup` holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(3, 2) for name in ("mild", "wild")})


class _Detector(nn.Module):
    """A detector reduced to its parts with parameters."""

    def __init__(self, refinement_head: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = nn.Linear(3, 3)
        self.bbox_head = nn.Module()
        self.bbox_head.refinement_head = refinement_head or _Head()

    @property
    def heads(self) -> Any:
        return self.bbox_head.refinement_head.heads

    def loss(self, name: str) -> torch.Tensor:
        """One head's, of very different size."""
        scale = {"mild": 0.3, "wild": 1e4}[name]
        return scale * self.heads[name](torch.ones(4, 3)).square().sum()


def _wrapper(model: nn.Module, **settings: Any) -> Any:
    from mmengine.optim import build_optim_wrapper

    return build_optim_wrapper(
        model,
        {
            "type": "GroupwiseClipOptimWrapper",
            "constructor": "HeadwiseOptimWrapperConstructor",
            "optimizer": dict(_OPTIMIZER),
            "clip_grad": dict(_CLIP),
            **settings,
        },
    )


def test_every_head_has_a_group_of_its_parameters_and_the_detector_has_none() -> None:
    """By identity, in the order of the heads."""
    model = _Detector()
    groups = _wrapper(model).optimizer.param_groups
    found = [[id(p) for p in group["params"]] for group in groups]
    assert found == [[id(p) for p in head.parameters()] for head in model.heads.values()]
    assert all(group["lr"] == _OPTIMIZER["lr"] for group in groups)


def test_heads_step_as_with_an_optimizer_and_a_clip_of_their_own() -> None:
    """Three steps of both heads at once, and of each alone."""
    from mmengine.optim import OptimWrapper

    together, alone = _Detector(), {}
    for name in together.heads:
        model = copy.deepcopy(together)
        own = OptimWrapper(
            torch.optim.AdamW(model.heads[name].parameters(), lr=0.1, weight_decay=0.01),
            clip_grad=dict(_CLIP),
        )
        for _ in range(3):
            own.update_params(model.loss(name))
        alone[name] = model.heads[name]
    wrapper = _wrapper(together)
    for _ in range(3):
        wrapper.update_params(together.loss("mild") + together.loss("wild"))
    for name, head in alone.items():
        for found, expected in zip(
            together.heads[name].parameters(), head.parameters(), strict=True
        ):
            torch.testing.assert_close(found, expected)


def test_each_group_is_clipped_by_its_own_norm() -> None:
    """A large head does not shrink the gradients of a small one."""
    model = _Detector()
    wrapper = _wrapper(model, optimizer={"type": "SGD", "lr": 0.0})
    before = copy.deepcopy(model)
    (1e-3 * before.loss("mild")).backward()
    wrapper.backward(1e-3 * model.loss("mild") + model.loss("wild"))
    wrapper.step()
    norms = {
        name: torch.stack([p.grad.norm() for p in head.parameters()]).norm()
        for name, head in model.heads.items()
    }
    torch.testing.assert_close(norms["wild"].item(), _CLIP["max_norm"], rtol=1e-4, atol=0)
    for found, expected in zip(
        model.heads["mild"].parameters(), before.heads["mild"].parameters(), strict=True
    ):
        torch.testing.assert_close(found.grad, expected.grad)


def test_head_without_a_gradient_is_left_alone() -> None:
    """A step of one of two heads."""
    model = _Detector()
    expected = copy.deepcopy(model.heads["wild"].state_dict())
    _wrapper(model).update_params(model.loss("mild"))
    for name, value in model.heads["wild"].state_dict().items():
        assert torch.equal(value, expected[name])


def test_model_in_a_wrapper_is_unwrapped() -> None:
    """As data-parallel training hands it over."""
    from mmengine.registry import MODEL_WRAPPERS

    class Wrapped(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

    MODEL_WRAPPERS.register_module(name="HeadwiseTestWrapper", module=Wrapped)
    try:
        assert len(_wrapper(Wrapped(_Detector())).optimizer.param_groups) == 2
    finally:
        MODEL_WRAPPERS.module_dict.pop("HeadwiseTestWrapper")


def test_model_without_a_group_of_heads_is_refused() -> None:
    """Whose parameters would not be found."""
    with pytest.raises(ValueError, match="a RefinementHeadGroup"):
        _wrapper(_Detector(nn.Linear(3, 2)))


def test_settings_by_parameter_are_refused() -> None:
    """They would be ignored."""
    with pytest.raises(ValueError, match="paramwise_cfg must be empty"):
        _wrapper(_Detector(), paramwise_cfg={"norm_decay_mult": 0.0})

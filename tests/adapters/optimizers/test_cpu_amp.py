"""bfloat16 on a CPU."""

from __future__ import annotations

import pytest
import torch
from torch import nn

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]


def build_wrapper(model: nn.Module, **settings: object) -> object:
    """The wrapper around plain gradient descent, from the registry."""
    from mmengine.registry import OPTIM_WRAPPERS

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return OPTIM_WRAPPERS.build({"type": "CPUAmpOptimWrapper", "optimizer": optimizer, **settings})


def test_the_forward_runs_in_bfloat16_and_the_parameters_stay_float32() -> None:
    """Autocast inside the context only."""
    model = nn.Linear(4, 1)
    wrapper = build_wrapper(model)
    with wrapper.optim_context(model):
        inside = model(torch.ones(2, 4))
    outside = model(torch.ones(2, 4))
    wrapper.update_params(inside.float().mean())
    assert (inside.dtype, outside.dtype) == (torch.bfloat16, torch.float32)
    assert model.weight.dtype == torch.float32


def test_a_step_equals_the_float32_step_to_bfloat16_precision() -> None:
    """One step of both; bfloat16 has eight bits of mantissa."""
    from mmengine.optim import OptimWrapper

    weights = []
    for kind in ("amp", "plain"):
        torch.manual_seed(0)
        model = nn.Linear(8, 1)
        plain = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
        wrapper = build_wrapper(model) if kind == "amp" else plain
        with wrapper.optim_context(model):
            loss = model(torch.ones(16, 8)).float().square().mean()
        wrapper.update_params(loss)
        weights.append(model.weight.detach())
    torch.testing.assert_close(weights[0], weights[1], rtol=0.02, atol=0.01)


def test_the_stock_wrapper_refuses_a_cpu() -> None:
    """Why there is another one."""
    if torch.cuda.is_available():
        pytest.skip("the stock wrapper serves CUDA")
    from mmengine.optim import AmpOptimWrapper

    with pytest.raises(AssertionError, match="only available"):
        AmpOptimWrapper(optimizer=torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1))

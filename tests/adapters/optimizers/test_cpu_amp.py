"""bfloat16 on a CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]


def step(kind: str) -> tuple[Tensor, Tensor]:
    """The output in the wrapper's context, and the weights after one step of descent."""
    from mmengine.registry import OPTIM_WRAPPERS

    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapper = OPTIM_WRAPPERS.build({"type": kind, "optimizer": optimizer})
    with wrapper.optim_context(model):
        output = model(torch.ones(16, 8))
    wrapper.update_params(output.float().square().mean())
    assert model(torch.ones(16, 8)).dtype == torch.float32
    return output, model.weight.detach()


def test_a_step_in_bfloat16_equals_the_float32_step_to_its_precision() -> None:
    """bfloat16 has eight bits of mantissa; parameters stay float32."""
    (output, weight), (_, expected) = step("CPUAmpOptimWrapper"), step("OptimWrapper")
    assert (output.dtype, weight.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(weight, expected, rtol=0.02, atol=0.01)


def test_the_stock_wrapper_refuses_a_cpu() -> None:
    """Why there is another one."""
    if torch.cuda.is_available():
        pytest.skip("the stock wrapper serves CUDA")
    with pytest.raises(AssertionError, match="only available"):
        step("AmpOptimWrapper")

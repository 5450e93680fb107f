"""Where a case of the contract runs, and random numbers that are the same on every device."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

Moved = TypeVar("Moved")
_DRAWS = ("aten.rand.", "aten.randn.", "aten.randint.", "aten.exponential_.", "aten.multinomial.")


@dataclass(frozen=True)
class Place:
    """A device and a floating-point type."""

    device: torch.device
    dtype: torch.dtype = torch.float64

    def __call__(self, value: Moved) -> Moved:
        """Move a tensor, a record or a module, made on the CPU; whole numbers keep their type."""
        if isinstance(value, nn.Module):
            return copy.deepcopy(value).to(self.device, self.dtype)
        if isinstance(value, Tensor) and not value.is_floating_point():
            return value.to(self.device)
        return value.to(self.device, self.dtype)

    def leaf(self, value: Tensor) -> Tensor:
        """Move a tensor that gradients are wanted in."""
        return self(value).detach().requires_grad_()


class DrawnOnTheCPU(TorchDispatchMode):
    """Draws every random number on the CPU, from one seed, and moves it where it is wanted."""

    def __init__(self) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(0)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if not str(function).startswith(_DRAWS):
            return function(*args, **options)
        options.pop("generator", None)
        tensors = [argument for argument in args if isinstance(argument, Tensor)]
        device = tensors[0].device if tensors else options.pop("device", None)
        args = [a.cpu() if isinstance(a, Tensor) else a for a in args]
        options.pop("pin_memory", None)
        name = function.overloadpacket.__name__
        if name == "exponential_":
            return tensors[0].copy_(args[0].exponential_(*args[1:], generator=self._generator))
        drawn = getattr(torch, name)(*args, **options, generator=self._generator)
        return drawn.to(device)


def gradients(value: Tensor, **leaves: Tensor | None) -> dict[str, Tensor]:
    """Gradients of the sum of a value, by the names of what they are taken in."""
    wanted = {name: leaf for name, leaf in leaves.items() if leaf is not None}
    if not wanted:
        return {}
    found = torch.autograd.grad(
        value.sum(), list(wanted.values()), allow_unused=True, retain_graph=True
    )
    named = zip(wanted, found, strict=True)
    return {f"gradient by {name}": grad for name, grad in named if grad is not None}


def gradients_of_parameters(value: Tensor, *modules: Any) -> dict[str, Tensor]:
    """The same in all parameters of modules; what is no module has none."""
    parameters = {
        f"{number}.{name}": parameter
        for number, module in enumerate(modules)
        if isinstance(module, nn.Module)
        for name, parameter in module.named_parameters()
    }
    return gradients(value, **parameters)

"""One optimizer for heads that are trained side by side, as if each had its own."""

from __future__ import annotations

from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn

from ebm3d.errors import input_error


@OPTIM_WRAPPERS.register_module()
class GroupwiseClipOptimWrapper(OptimWrapper):
    """Clips the gradients of every parameter group by the norm of that group.

    One norm over heads that are trained side by side would let a head with large gradients slow
    the others. The arguments are those of ``OptimWrapper``.
    """

    def _clip_grad(self) -> None:
        """Clip group by group; called by ``step`` where ``clip_grad`` is given."""
        for group in self.optimizer.param_groups:
            with_gradient = [p for p in group["params"] if p.grad is not None]
            if with_gradient:
                self.clip_func(with_gradient, **self.clip_grad_kwargs)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class HeadwiseOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Makes one parameter group of each head of the model's ``RefinementHeadGroup``.

    The arguments are those of mmengine's default constructor, without ``paramwise_cfg``.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer and its wrapper.

        Args:
            model: a detector with a ``RefinementHeadGroup``, in a data-parallel wrapper or not.

        Raises:
            ValueError: if the model has no such group, or ``paramwise_cfg`` is given.
        """
        if self.paramwise_cfg:
            raise input_error("paramwise_cfg", "empty with headwise groups", self.paramwise_cfg)
        inner: Any = model.module if is_model_wrapper(model) else model
        heads = getattr(getattr(inner.bbox_head, "refinement_head", None), "heads", None)
        if heads is None:
            raise input_error("bbox_head.refinement_head", "a RefinementHeadGroup", "another head")
        groups = [{"params": list(head.parameters())} for head in heads.values()]
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, "params": groups})
        settings = {"type": "OptimWrapper", **self.optim_wrapper_cfg}
        built: OptimWrapper = OPTIM_WRAPPERS.build(settings, default_args={"optimizer": optimizer})
        return built

"""The module ``mmcv._ext`` of mmcv 2.1.0, in torch and numba: no compiler is needed.

``mmcv.ops`` of ``mmcv-lite`` calls ``mmcv._ext.NAME`` with the tensors to fill. The functions of
this package have those names and arguments; ``docs/host.md`` lists who calls them. Each has one
rule for every device: numba on a CPU where that is faster, torch elsewhere, deterministic.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

from ebm3d.adapters.operators import (
    box_iou_rotated,
    deform_conv,
    dynamic_scatter,
    nms,
    points_in_boxes,
    sigmoid_focal_loss,
    voxelize,
)

OPERATORS: dict[str, Callable[..., Any]] = {
    **{
        name: getattr(module, name)
        for module in (
            *(box_iou_rotated, deform_conv, dynamic_scatter, nms),
            *(points_in_boxes, sigmoid_focal_loss, voxelize),
        )
        for name in module.__all__
    },
    # What ``collect_env`` prints.
    "get_compiler_version": lambda: "none: ebm3d.adapters.operators",
    "get_compiling_cuda_version": lambda: "none: ebm3d.adapters.operators, with torch's CUDA",
}
"""The operators by their name in ``mmcv._ext``."""


def missing_operator(name: str) -> Callable[..., NoReturn]:
    """A function that raises, in place of an operator that only a compiled mmcv has.

    Raises:
        AttributeError: for a private name, which is no operator.
    """
    if name.startswith("_"):
        raise AttributeError(f"module 'mmcv._ext' has no attribute {name!r}")

    def raise_missing(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError(
            f"mmcv._ext.{name} needs a compiled mmcv, but mmcv-lite is installed and "
            "ebm3d.adapters.operators does not provide it; run "
            '"pip uninstall mmcv-lite" and "pip install mmcv==2.1.0" (a wheel from OpenMMLab\'s '
            "index for your torch and CUDA, or a build from source)."
        )

    return raise_missing


class OperatorsLoader(Loader):
    """Loads ``mmcv._ext``: the operators, and a function that raises for any other name."""

    def create_module(self, spec: ModuleSpec) -> None:
        """An ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module."""
        module.__doc__ = "mmcv's operators by ebm3d.adapters.operators: no compiled mmcv is here."
        vars(module).update(OPERATORS, __getattr__=missing_operator)


__all__ = ["OPERATORS", "OperatorsLoader", "missing_operator"]

"""The module ``mmcv._ext``, made of the operators of this package."""

from __future__ import annotations

from collections.abc import Callable
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

from ebm3d.adapters.operators.missing import PURPOSES


class OperatorsLoader(Loader):
    """Fills ``mmcv._ext`` with every name that mmcv's Python asks a compiled module for."""

    def create_module(self, spec: ModuleSpec) -> None:
        """An ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        """The operators, and for each missing one a function that says so."""
        from ebm3d.adapters.operators import OPERATORS

        module.__doc__ = "mmcv's operators by ebm3d.adapters.operators: no compiled mmcv is here."
        vars(module).update({name: missing_operator(name) for name in PURPOSES})
        vars(module).update(OPERATORS)


def missing_operator(name: str) -> Callable[..., Any]:
    """A function in the place of an operator that only a compiled mmcv has.

    Args:
        name: the operator's name in ``mmcv._ext``.

    Returns:
        A function that raises ``RuntimeError`` with the operator's purpose and the remedy.
    """

    def raise_missing(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError(
            f"mmcv._ext.{name} ({PURPOSES[name]}) needs a compiled mmcv, but mmcv-lite is "
            "installed and ebm3d.adapters.operators does not provide it; run "
            '"pip uninstall mmcv-lite" and "pip install mmcv==2.1.0" (a wheel from OpenMMLab\'s '
            "index for your torch and CUDA, or a build from source)."
        )

    raise_missing.__name__ = raise_missing.__qualname__ = name
    return raise_missing

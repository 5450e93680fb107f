"""Where mmcv has no compiled operators, ``mmcv._ext`` is ``ebm3d.adapters.operators``.

``ebm3d_operators.pth`` runs ``install`` when the interpreter starts, so that no order of imports
matters; ``ebm3d.adapters`` runs it too, for a plugin on ``PYTHONPATH``. The finder comes last of
all: a compiled ``mmcv._ext`` on the path is found before it. Nothing is imported until then, for
every interpreter of an environment pays for what stands here (docs/decisions/007).
"""

import sys

NAME = "mmcv._ext"


class OperatorsFinder:
    """Finds ``mmcv._ext`` after every other finder has failed to."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> object:
        """The module's specification, or None for any other name and without ebm3d."""
        if name != NAME:
            return None
        from importlib.util import find_spec, spec_from_loader

        if find_spec("ebm3d") is None:  # an editable install whose checkout is gone
            return None
        from ebm3d.adapters.operators import OperatorsLoader

        return spec_from_loader(name, OperatorsLoader(), origin="ebm3d.adapters.operators")


def install() -> None:
    """Append the finder, unless it is there."""
    finders: list[object] = sys.meta_path  # type: ignore[assignment]
    if OperatorsFinder not in finders:
        finders.append(OperatorsFinder)

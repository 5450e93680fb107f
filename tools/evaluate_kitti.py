"""Evaluate KITTI result files: ``python tools/evaluate_kitti.py LABELS RESULTS``.

The same as ``ebm3d evaluate LABELS RESULTS``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ebm3d import commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate and print; 0 if all went well, 1 if the input is at fault."""
    return commands.main(["evaluate", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    sys.exit(main())

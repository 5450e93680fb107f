"""Evaluate a nuScenes result file: ``python tools/evaluate_nuscenes.py TABLES_OR_INFOS RESULTS``.

The same as ``ebm3d evaluate-nuscenes TABLES_OR_INFOS RESULTS``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ebm3d import commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate and print; 0 if all went well, 1 if the input is at fault."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return commands.main(["evaluate-nuscenes", *arguments])


if __name__ == "__main__":
    sys.exit(main())

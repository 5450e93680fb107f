"""Problems with known answers, on which the methods are measured.

``regression_1d`` is the one-dimensional regression of Gustafsson et al., BMVC 2020.
"""

from __future__ import annotations

__all__: list[str] = []

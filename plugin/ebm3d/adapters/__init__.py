"""Everything that touches MMDetection3D: the classes its registries know, operators, repairs."""

import _ebm3d_operators

_ebm3d_operators.install()

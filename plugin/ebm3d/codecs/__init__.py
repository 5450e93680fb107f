"""Label encodings of scalars: quantizer, soft labels, codebooks, decoders.

Shapes that do not fit, unknown names and constants out of range raise ``ValueError``.
"""

from ebm3d.codecs.codebooks import CODEBOOKS, build_codebook
from ebm3d.codecs.decoders import (
    DECODERS,
    counted_digits,
    counted_level,
    expected_level,
    level_scores,
)
from ebm3d.codecs.quantizer import Quantizer
from ebm3d.codecs.soft_labels import SOFT_LABELS, check_soft_labels, soft_labels

__all__ = [
    "CODEBOOKS",
    "DECODERS",
    "SOFT_LABELS",
    "Quantizer",
    "build_codebook",
    "check_soft_labels",
    "counted_digits",
    "counted_level",
    "expected_level",
    "level_scores",
    "soft_labels",
]

"""Colors that color-blind readers can tell apart (Okabe and Ito), one meaning each everywhere."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BoxStyle:
    """How one kind of box is drawn.

    Attributes:
        label: its entry in a legend.
        color: hexadecimal RGB.
        dashes: matplotlib line style, so that a picture survives a black-and-white printer.
        width: line width in points.
        marker: matplotlib marker of its center.
    """

    label: str
    color: str
    dashes: str
    width: float
    marker: str


GROUND_TRUTH = BoxStyle("ground truth", "#009E73", "-", 2.4, "*")
INITIAL = BoxStyle("detected", "#D55E00", "--", 1.3, "X")
REFINED = BoxStyle("refined", "#0072B2", "-", 1.3, "o")
POINT_COLOR = "#777777"

# A cloud from low to high: grays with a little blue, so that boxes stand out.
_LOW, _HIGH = (196, 203, 208), (48, 62, 80)


def rgb(color: str) -> tuple[int, int, int]:
    """Return the three bytes of a hexadecimal color such as ``"#0072B2"``."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def height_color(share: float) -> tuple[int, int, int]:
    """Return the three bytes for a point at a share in [0, 1] of the way from low to high."""
    low, high = _LOW, _HIGH
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(low, high, strict=True))
    return red, green, blue

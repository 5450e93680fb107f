"""Pictures of frames before and after refinement, of f around a box, and of calibration.

Plotting libraries are imported inside functions: importing this package needs none of them.
"""

from ebm3d.visualization.bev import bev_figure, write_bev_picture
from ebm3d.visualization.calibration import calibration_figure, write_calibration_picture
from ebm3d.visualization.energy_landscape import (
    EnergyLandscape,
    energy_figure,
    energy_landscape,
    write_energy_picture,
)
from ebm3d.visualization.frame import (
    MIN_SCORE,
    RefinedFrame,
    fitting_min_score,
    most_convincing,
)
from ebm3d.visualization.perspective import write_rendering
from ebm3d.visualization.rendering import RenderingError
from ebm3d.visualization.scene import Scene, scene_of_frame, write_ply
from ebm3d.visualization.window import FrameBrowser, show_frames

__all__ = [
    "MIN_SCORE",
    "EnergyLandscape",
    "FrameBrowser",
    "RefinedFrame",
    "RenderingError",
    "Scene",
    "bev_figure",
    "calibration_figure",
    "energy_figure",
    "energy_landscape",
    "fitting_min_score",
    "most_convincing",
    "scene_of_frame",
    "show_frames",
    "write_bev_picture",
    "write_calibration_picture",
    "write_energy_picture",
    "write_ply",
    "write_rendering",
]

"""Pictures during testing, without a screen."""

from __future__ import annotations

import logging
from functools import wraps
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

_NO_DISPLAY = "There is no display to open a window on; tools/visualize.py draws into files."


def repair_visualization_hook() -> bool:
    """Let ``Det3DVisualizationHook`` draw LiDAR frames without a window.

    Upstream defects (mmdet3d 1.4.0): ``after_test_iter`` joins its output folder to the work
    folder again for every batch, so the paths nest; with a point cloud alone there is no picture
    to hand to the backends, and ``add_image(None)`` raises; and without a display ``show`` reads
    the ``view_control`` of a window that was never made. After the repair the folder is fixed at
    the first batch, an absent picture is not recorded, and without a window ``show`` says so and
    returns.

    Returns:
        Whether the repair is in place.
    """
    from mmdet3d.engine.hooks import Det3DVisualizationHook
    from mmdet3d.visualization import Det3DLocalVisualizer

    if getattr(Det3DLocalVisualizer.show, "needs_window", False):
        return True
    after_test_iter = Det3DVisualizationHook.after_test_iter
    add_image, show = Det3DLocalVisualizer.add_image, Det3DLocalVisualizer.show

    @wraps(after_test_iter)
    def after_iter(self: Any, runner: Any, *args: Any, **kwargs: Any) -> None:
        if self.test_out_dir is not None:
            folder = Path(runner.work_dir, runner.timestamp, self.test_out_dir)
            self.test_out_dir = str(folder.resolve())
        after_test_iter(self, runner, *args, **kwargs)

    @wraps(add_image)
    def add_picture(self: Any, name: str, image: Any, *args: Any, **kwargs: Any) -> None:
        if image is not None:
            add_image(self, name, image, *args, **kwargs)

    @wraps(show)
    def show_window(self: Any, *args: Any, **kwargs: Any) -> None:
        if hasattr(self, "o3d_vis") and not hasattr(self, "view_control"):
            print_log(_NO_DISPLAY, logger="current", level=logging.WARNING)
            return
        show(self, *args, **kwargs)

    show_window.needs_window = True  # type: ignore[attr-defined]
    Det3DVisualizationHook.after_test_iter = after_iter
    Det3DLocalVisualizer.add_image = add_picture
    Det3DLocalVisualizer.show = show_window
    return True

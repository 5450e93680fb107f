"""Pictures during testing, without a screen."""

from __future__ import annotations

import logging
from functools import cache, wraps
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

_NO_DISPLAY = "There is no display to open a window on; tools/visualize.py draws into files."


@cache
def repair_visualization_hook() -> bool:
    """Let ``Det3DVisualizationHook`` draw LiDAR frames without a window.

    Upstream defects (mmdet3d 1.4.0): ``after_test_iter`` joins its output folder to the work
    folder again for every batch; a point cloud alone has no picture, and ``add_image(None)``
    raises; without a display ``show`` reads the ``view_control`` of a window never made. Here the
    folder is fixed, an absent picture is not recorded, and ``show`` warns.
    """
    from mmdet3d.engine.hooks import Det3DVisualizationHook as Hook
    from mmdet3d.visualization import Det3DLocalVisualizer as Visualizer

    after_iter, add_image, show = Hook.after_test_iter, Visualizer.add_image, Visualizer.show

    @wraps(after_iter)
    def after_iter_in_one_folder(self: Any, runner: Any, *args: Any, **kwargs: Any) -> None:
        if self.test_out_dir is not None:
            folder = Path(runner.work_dir, runner.timestamp, self.test_out_dir)
            self.test_out_dir = str(folder.resolve())
        after_iter(self, runner, *args, **kwargs)

    @wraps(add_image)
    def add_present_image(self: Any, name: str, image: Any, *args: Any, **kwargs: Any) -> None:
        if image is not None:
            add_image(self, name, image, *args, **kwargs)

    @wraps(show)
    def show_in_window(self: Any, *args: Any, **kwargs: Any) -> None:
        if hasattr(self, "o3d_vis") and not hasattr(self, "view_control"):
            print_log(_NO_DISPLAY, logger="current", level=logging.WARNING)
        else:
            show(self, *args, **kwargs)

    Hook.after_test_iter = after_iter_in_one_folder
    Visualizer.add_image, Visualizer.show = add_present_image, show_in_window
    return True

"""One simulated frame: a scene, a sweep of a sensor, its points and labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ebm3d.datasets.kitti_calibration import KittiCalibration
from ebm3d.datasets.kitti_labels import KittiObjects
from ebm3d.datasets.point_clouds import in_camera_view
from ebm3d.errors import input_error
from ebm3d.simulation.camera import IMAGE_SIZE, kitti_camera
from ebm3d.simulation.labels import make_labels
from ebm3d.simulation.raycast import Rays, cast_sweep
from ebm3d.simulation.returns import MEAN_FREE_PATHS, draw_echoes, visible_rays
from ebm3d.simulation.sensors import Sensor, find_sensor
from ebm3d.simulation.street import draw_scene

FloatArray = NDArray[np.float64]
FieldOfView = Literal["camera", "full"]
_BORDER = np.deg2rad(2.0)  # cast beyond the image's border, as LiDAR and camera stand apart


@dataclass(frozen=True, eq=False)
class Frame:
    """A simulated frame; M objects, N points.

    Args:
        points: x, y, z in meters, LiDAR frame, and intensity in [0, 1), shape ``(N, 4)``.
        boxes: LiDAR frame, tight around the shapes, shape ``(M, 7)``: with the camera's view the
            labeled objects, in the order of ``labels``; with the full view all with an echo.
        names: class names, shape ``(M,)``.
        num_points: echoes of every object among ``points``, shape ``(M,)``.
        visible_share: rays that meet an object, over those that would if it stood alone, ``(M,)``.
        labels: KITTI labels of the camera's view, DontCare regions last.
        calibration: of the camera.
    """

    points: NDArray[np.float32]
    boxes: FloatArray
    names: NDArray[np.str_]
    num_points: NDArray[np.int64]
    visible_share: FloatArray
    labels: KittiObjects
    calibration: KittiCalibration


def simulate_frame(
    seed: int | np.random.SeedSequence | np.random.Generator,
    sensor: str | Sensor = "64-beam",
    field_of_view: FieldOfView = "camera",
) -> Frame:
    """Draw a street scene and scan it.

    Args:
        seed: of all randomness; the same seed gives the same frame.
        sensor: name in ``SENSORS``, or a sensor.
        field_of_view: "camera" scans what the camera sees, and keeps the points within the image,
            as KITTI's labels and detectors do; "full" scans and keeps 360 degrees.

    Raises:
        ValueError: if the sensor or the field of view is unknown.
    """
    if field_of_view not in ("camera", "full"):
        raise input_error("field_of_view", '"camera" or "full"', repr(field_of_view))
    sensor = find_sensor(sensor)
    generator = np.random.default_rng(seed)
    scene = draw_scene(sensor.height, generator, behind=field_of_view == "full")
    calibration = kitti_camera()
    rays = make_rays(sensor, field_of_view, calibration, float(generator.random()))
    scatter = generator.random((len(rays.elevations), rays.num_columns))
    num = len(scene.objects)
    sweep = cast_sweep(scene.solids(), num, scene.ground, MEAN_FREE_PATHS, rays, scatter)
    tints = np.array([o.tint for o in scene.objects])
    points, owner, _ = draw_echoes(sweep, rays, sensor, tints, generator)
    seen = in_camera_view(points, calibration, *IMAGE_SIZE)
    of_class = np.flatnonzero([bool(o.name) for o in scene.objects])
    names = np.array([scene.objects[i].name for i in of_class], dtype=np.str_)
    boxes = np.array([scene.objects[i].box for i in of_class]).reshape(-1, 7)
    share = np.ones(num)
    np.divide(visible_rays(sweep), sweep.alone, out=share, where=sweep.alone > 0)
    share = share[of_class]
    num_points = np.bincount(owner[seen & (owner >= 0)], minlength=num)[of_class]
    labels, kept = make_labels(names, boxes, share, num_points, calibration)
    if field_of_view == "full":
        num_points = np.bincount(owner[owner >= 0], minlength=num)[of_class]
        kept = np.flatnonzero(num_points > 0)
    return Frame(
        points=points if field_of_view == "full" else points[seen],
        boxes=boxes[kept],
        names=names[kept],
        num_points=num_points[kept],
        visible_share=share[kept],
        labels=labels,
        calibration=calibration,
    )


def make_rays(
    sensor: Sensor, field_of_view: FieldOfView, calibration: KittiCalibration, phase: float
) -> Rays:
    """Rays of a sweep that begins at the share ``phase`` between two columns.

    In the camera's view, only those that the camera may see.
    """
    elevations = np.deg2rad(sensor.elevations_deg)
    step = np.deg2rad(sensor.azimuth_step_deg)
    first, num_columns = -np.pi, sensor.num_columns
    if field_of_view == "camera":
        focal, center_u, center_v = calibration.P2[[0, 0, 1], [0, 2, 2]]
        left = np.arctan(center_u / focal) + _BORDER
        right = np.arctan((IMAGE_SIZE[0] - center_u) / focal) + _BORDER
        lowest = -np.arctan((IMAGE_SIZE[1] - center_v) / focal) - _BORDER
        elevations = elevations[elevations >= lowest]
        first, num_columns = -right, int(np.ceil((left + right) / step))
    first += phase * step
    return Rays(elevations, first, step, num_columns, sensor.num_columns, sensor.max_range)

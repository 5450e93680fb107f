"""The KITTI layout: read, check and write labels, calibrations and clouds; prepare a data set."""

from __future__ import annotations

from ebm3d.datasets.cloud_layouts import CloudLayout, column_names
from ebm3d.datasets.cloud_source import add_cloud_options, cloud_layout
from ebm3d.datasets.kitti_calibration import (
    KittiCalibration,
    boxes_from_camera,
    boxes_to_camera,
    camera_to_lidar,
    lidar_to_camera,
    project_to_image,
    read_calibration,
    write_calibration,
)
from ebm3d.datasets.kitti_labels import KittiObjects, read_labels, write_labels
from ebm3d.datasets.point_clouds import read_cloud, write_cloud
from ebm3d.datasets.preparation import PreparationReport, prepare_kitti
from ebm3d.datasets.problems import DataError, Problem

__all__ = [
    "CloudLayout",
    "DataError",
    "KittiCalibration",
    "KittiObjects",
    "PreparationReport",
    "Problem",
    "add_cloud_options",
    "boxes_from_camera",
    "boxes_to_camera",
    "camera_to_lidar",
    "cloud_layout",
    "column_names",
    "lidar_to_camera",
    "prepare_kitti",
    "project_to_image",
    "read_calibration",
    "read_cloud",
    "read_labels",
    "write_calibration",
    "write_cloud",
    "write_labels",
]

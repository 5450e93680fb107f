# EBM refinement of the ten classes of nuScenes and of their velocities. A config hands on the
# channels of the map, the range and the names of the classes in the order of its dense head.
# noise.stds: along, across, up (m); length, width, height (log ratio; meters in step_scale); yaw
# (rad); velocity along and across (m/s).
_base_ = ["./ebm.py"]

table_classes = [
    *("car", "truck", "trailer", "bus", "construction_vehicle", "bicycle", "motorcycle"),
    *("pedestrian", "traffic_cone", "barrier"),
]
refinement_head = dict(
    pooling=[
        dict(type="BEVGridPool", grid=(4, 7), projection=32),
        dict(
            type="PointBoxPool",
            channels=(32, 64),
            max_box_shift=1.5,
            max_points=256,
            num_features=5,  # x, y, z, intensity, time lag
            time_feature=4,
            feature_scales=(1 / 255, 1.0),
        ),
    ],
    network=dict(
        mean_sizes=dict(  # m, of the annotations of nuScenes
            _delete_=True,
            car=[4.61, 1.95, 1.72],
            truck=[6.74, 2.46, 2.73],
            trailer=[12.01, 2.87, 3.82],
            bus=[11.19, 2.95, 3.49],
            construction_vehicle=[6.52, 2.82, 3.20],
            bicycle=[1.68, 0.60, 1.27],
            motorcycle=[2.10, 0.77, 1.46],
            pedestrian=[0.73, 0.66, 1.76],
            traffic_cone=[0.40, 0.40, 1.06],
            barrier=[0.49, 2.49, 0.98],
        )
    ),
    noise=dict(
        stds=dict(
            _delete_=True,
            car=[0.25, 0.12, 0.12, 0.10, 0.07, 0.08, 0.10, 0.6, 0.3],
            truck=[0.45, 0.20, 0.18, 0.14, 0.08, 0.10, 0.10, 0.6, 0.3],
            trailer=[0.70, 0.30, 0.25, 0.14, 0.08, 0.10, 0.12, 0.5, 0.3],
            bus=[0.60, 0.20, 0.20, 0.12, 0.06, 0.08, 0.08, 0.8, 0.3],
            construction_vehicle=[0.50, 0.30, 0.25, 0.18, 0.14, 0.12, 0.20, 0.4, 0.3],
            bicycle=[0.16, 0.12, 0.12, 0.10, 0.14, 0.10, 0.20, 0.5, 0.3],
            motorcycle=[0.18, 0.12, 0.12, 0.10, 0.14, 0.08, 0.20, 0.7, 0.3],
            pedestrian=[0.12, 0.12, 0.10, 0.14, 0.14, 0.08, 0.30, 0.3, 0.3],
            traffic_cone=[0.08, 0.08, 0.08, 0.16, 0.16, 0.10, 0.30, 0.05, 0.05],
            barrier=[0.12, 0.25, 0.10, 0.18, 0.12, 0.10, 0.12, 0.05, 0.05],
        )
    ),
    refiner=dict(
        step_scale=dict(
            _delete_=True,
            car=[0.25, 0.12, 0.12, 0.45, 0.14, 0.14, 0.10, 0.6, 0.3],
            truck=[0.45, 0.20, 0.18, 0.95, 0.20, 0.27, 0.10, 0.6, 0.3],
            trailer=[0.70, 0.30, 0.25, 1.70, 0.23, 0.38, 0.12, 0.5, 0.3],
            bus=[0.60, 0.20, 0.20, 1.35, 0.18, 0.28, 0.08, 0.8, 0.3],
            construction_vehicle=[0.50, 0.30, 0.25, 1.15, 0.40, 0.38, 0.20, 0.4, 0.3],
            bicycle=[0.16, 0.12, 0.12, 0.17, 0.08, 0.13, 0.20, 0.5, 0.3],
            motorcycle=[0.18, 0.12, 0.12, 0.21, 0.11, 0.12, 0.20, 0.7, 0.3],
            pedestrian=[0.12, 0.12, 0.10, 0.10, 0.09, 0.14, 0.30, 0.3, 0.3],
            traffic_cone=[0.08, 0.08, 0.08, 0.06, 0.06, 0.11, 0.30, 0.05, 0.05],
            barrier=[0.12, 0.25, 0.10, 0.09, 0.30, 0.10, 0.12, 0.05, 0.05],
        )
    ),
)

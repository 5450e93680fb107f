# Ten classes in simulated drives, ten sweeps a key frame, in the square of 102.4 m that the
# CPU-sized detectors see. The data are in the nuScenes layout: another data_root, another data set.
dataset_type = "NuScenesDataset"
data_root = "data/simulated_drives/"
class_names = [
    *("car", "truck", "trailer", "bus", "construction_vehicle", "bicycle", "motorcycle"),
    *("pedestrian", "traffic_cone", "barrier"),
]
metainfo = dict(classes=class_names)
input_modality = dict(use_lidar=True, use_camera=False)
data_prefix = dict(pts="samples/LIDAR_TOP", img="", sweeps="sweeps/LIDAR_TOP")
point_cloud_range = [-51.2, -51.2, -5, 51.2, 51.2, 3]  # m; detector configs hand it to the model
refinement_epochs = 6

load_points = dict(
    type="LoadPointsFromFile", coord_type="LIDAR", load_dim=5, use_dim=[0, 1, 2, 3, 4]
)
load_sweeps = dict(
    type="LoadPointsFromMultiSweeps",
    sweeps_num=9,
    use_dim=[0, 1, 2, 3, 4],
    remove_close=True,  # the returns of the ego car, in every cloud
)
db_sampler = dict(
    data_root=data_root,
    info_path=data_root + "nuscenes_dbinfos_train.pkl",
    rate=1.0,  # 0 switches the sampling of objects off
    prepare=dict(filter_by_difficulty=[-1], filter_by_min_points=dict.fromkeys(class_names, 5)),
    classes=class_names,
    sample_groups=dict(  # of the stock CenterPoint
        car=2,
        truck=3,
        trailer=6,
        bus=4,
        construction_vehicle=7,
        bicycle=6,
        motorcycle=6,
        pedestrian=2,
        traffic_cone=2,
        barrier=2,
    ),
    points_loader=load_points,
)
train_pipeline = [
    load_points,
    load_sweeps,
    dict(type="LoadAnnotations3D", with_bbox_3d=True, with_label_3d=True),
    dict(type="ObjectSample", db_sampler=db_sampler),
    dict(type="RandomFlip3D", flip_ratio_bev_horizontal=0.5, flip_ratio_bev_vertical=0.5),
    dict(
        type="GlobalRotScaleTrans",
        rot_range=[-0.3925, 0.3925],  # rad: 22.5 degrees
        scale_ratio_range=[0.95, 1.05],
    ),
    dict(type="PointsRangeFilter", point_cloud_range=point_cloud_range),
    dict(type="ObjectRangeFilter", point_cloud_range=point_cloud_range),
    dict(type="ObjectNameFilter", classes=class_names),
    dict(type="PointShuffle"),
    dict(type="Pack3DDetInputs", keys=["points", "gt_bboxes_3d", "gt_labels_3d"]),
]
test_pipeline = [
    load_points,
    load_sweeps,
    dict(type="PointsRangeFilter", point_cloud_range=point_cloud_range),
    dict(type="Pack3DDetInputs", keys=["points"]),
]

train_dataloader = dict(
    batch_size=2,
    num_workers=1,
    persistent_workers=False,  # EpochSeedHook seeds the workers when they start
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file="nuscenes_infos_train.pkl",
        data_prefix=data_prefix,
        pipeline=train_pipeline,
        modality=input_modality,
        test_mode=False,
        metainfo=metainfo,
        box_type_3d="LiDAR",
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=False,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file="nuscenes_infos_val.pkl",
        data_prefix=data_prefix,
        pipeline=test_pipeline,
        modality=input_modality,
        test_mode=True,
        metainfo=metainfo,
        box_type_3d="LiDAR",
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="EBM3DNuScenesMetric", ann_file=data_root + "nuscenes_infos_val.pkl")
test_evaluator = val_evaluator

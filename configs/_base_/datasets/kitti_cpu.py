# Cars of KITTI in the part of the scene that the CPU-sized detectors see. The folder and the
# range are said once, here; a data set of the same layout inherits this file and changes the
# folder (simulated_cpu.py).
dataset_type = "KittiDataset"
data_root = "data/kitti_mini/"
class_names = ["Car"]
metainfo = dict(classes=class_names)
input_modality = dict(use_lidar=True, use_camera=False)
point_cloud_range = [0, -25.6, -3, 51.2, 25.6, 1]  # m; detector configs hand it to the model
backend_args = None

load_points = dict(type="LoadPointsFromFile", coord_type="LIDAR", load_dim=4, use_dim=4)
db_sampler = dict(
    data_root=data_root,
    info_path=data_root + "kitti_dbinfos_train.pkl",
    rate=1.0,  # 0 switches the sampling of objects off
    prepare=dict(filter_by_difficulty=[-1], filter_by_min_points=dict(Car=5)),
    classes=class_names,
    sample_groups=dict(Car=12),  # 15 of the stock config belong to 70 m x 80 m
    points_loader=load_points,
)
train_pipeline = [
    load_points,
    dict(type="LoadAnnotations3D", with_bbox_3d=True, with_label_3d=True),
    dict(type="ObjectSample", db_sampler=db_sampler),
    dict(type="RandomFlip3D", flip_ratio_bev_horizontal=0.5),
    dict(
        type="GlobalRotScaleTrans",
        rot_range=[-0.78539816, 0.78539816],  # rad: 45 degrees
        scale_ratio_range=[0.95, 1.05],
    ),
    dict(type="PointsRangeFilter", point_cloud_range=point_cloud_range),
    dict(type="ObjectRangeFilter", point_cloud_range=point_cloud_range),
    dict(type="PointShuffle"),
    dict(type="Pack3DDetInputs", keys=["points", "gt_bboxes_3d", "gt_labels_3d"]),
]
test_pipeline = [
    load_points,
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
        ann_file="kitti_infos_train.pkl",
        data_prefix=dict(pts="training/velodyne_reduced"),
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
        ann_file="kitti_infos_val.pkl",
        data_prefix=dict(pts="training/velodyne_reduced"),
        pipeline=test_pipeline,
        modality=input_modality,
        test_mode=True,
        metainfo=metainfo,
        box_type_3d="LiDAR",
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="EBM3DKittiMetric", ann_file=data_root + "kitti_infos_val.pkl")
test_evaluator = val_evaluator

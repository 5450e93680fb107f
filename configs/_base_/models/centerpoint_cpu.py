# CenterPoint for the ten classes of nuScenes on a square of 102.4 m, sized to train on a CPU:
# pillars of 0.4 m instead of 0.2 m, the map of the stock model (0.8 m a cell), an eighth of its
# channels. The range comes from the data set; detector configs hand it on.
voxel_size = [0.4, 0.4, 8]  # m

model = dict(
    type="CenterPoint",
    data_preprocessor=dict(
        type="Det3DDataPreprocessor",
        voxel=True,
        voxel_layer=dict(max_num_points=10, voxel_size=voxel_size, max_voxels=(12000, 20000)),
    ),
    pts_voxel_encoder=dict(
        type="PillarFeatureNet",
        in_channels=5,
        feat_channels=[32],
        with_distance=False,
        voxel_size=voxel_size,
        norm_cfg=dict(type="BN1d", eps=1e-3, momentum=0.01),
        legacy=False,
    ),
    pts_middle_encoder=dict(type="PointPillarsScatter", in_channels=32, output_shape=[256, 256]),
    pts_backbone=dict(
        type="SECOND",
        in_channels=32,
        layer_nums=[2, 3],
        layer_strides=[2, 2],
        out_channels=[48, 80],
        norm_cfg=dict(type="BN", eps=1e-3, momentum=0.01),
    ),
    pts_neck=dict(
        type="SECONDFPN",
        in_channels=[48, 80],
        upsample_strides=[1, 2],
        out_channels=[48, 48],
        norm_cfg=dict(type="BN", eps=1e-3, momentum=0.01),
    ),
    pts_bbox_head=dict(
        type="CenterHead",
        in_channels=96,
        tasks=[  # NMS is common to the classes of a task; their order is that of the data set
            dict(num_class=1, class_names=["car"]),
            dict(num_class=4, class_names=["truck", "trailer", "bus", "construction_vehicle"]),
            dict(num_class=2, class_names=["bicycle", "motorcycle"]),
            dict(num_class=2, class_names=["pedestrian", "traffic_cone"]),
            dict(num_class=1, class_names=["barrier"]),
        ],
        common_heads=dict(reg=(2, 1), height=(1, 1), dim=(3, 1), rot=(2, 1), vel=(2, 1)),
        num_heatmap_convs=1,
        share_conv_channel=32,
        bbox_coder=dict(
            type="CenterPointBBoxCoder",
            post_center_range=[-61.2, -61.2, -10, 61.2, 61.2, 10],
            max_num=500,
            score_threshold=0.1,
            out_size_factor=2,
            voxel_size=voxel_size[:2],
            code_size=9,
        ),
        separate_head=dict(type="SeparateHead", init_bias=-2.19, head_conv=32, final_kernel=3),
        loss_cls=dict(type="mmdet.GaussianFocalLoss", reduction="mean"),
        loss_bbox=dict(type="mmdet.L1Loss", reduction="mean", loss_weight=1.0),
        norm_bbox=True,
    ),
    train_cfg=dict(
        pts=dict(
            grid_size=[256, 256, 1],
            voxel_size=voxel_size,
            out_size_factor=2,
            dense_reg=1,
            gaussian_overlap=0.1,
            max_objs=500,
            min_radius=2,
            code_weights=[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2],
        )
    ),
    test_cfg=dict(
        pts=dict(
            post_center_limit_range=[-61.2, -61.2, -10, 61.2, 61.2, 10],
            max_per_img=500,
            max_pool_nms=False,
            min_radius=[4, 12, 0.85, 0.175, 1],
            score_threshold=0.1,
            out_size_factor=2,
            voxel_size=voxel_size[:2],
            nms_type="rotate",
            pre_max_size=1000,
            post_max_size=100,  # of five tasks: 500 boxes, as many as the evaluation takes
            nms_thr=0.2,
        )
    ),
)

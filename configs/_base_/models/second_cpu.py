# SECOND for one class on a scene of 51.2 m x 51.2 m, sized to train on a CPU: the map of the
# stock model (0.4 m a cell) from voxels of 0.1 m in three stages instead of 0.05 m in four.
# The range comes from the data set; detector configs hand it on.
voxel_size = [0.1, 0.1, 0.2]  # m

model = dict(
    type="VoxelNet",
    data_preprocessor=dict(
        type="Det3DDataPreprocessor",
        voxel=True,
        voxel_layer=dict(
            max_num_points=5,
            voxel_size=voxel_size,
            max_voxels=(20000, 40000),
        ),
    ),
    voxel_encoder=dict(type="HardSimpleVFE"),
    middle_encoder=dict(
        type="SparseEncoder",
        in_channels=4,
        sparse_shape=[21, 512, 512],  # one more than the 20 cells of 0.2 m, as the stock model
        order=("conv", "norm", "act"),
        base_channels=16,
        encoder_channels=((16,), (32, 32), (64, 64)),
        encoder_paddings=((1,), (1, 1), (1, 1)),
        output_channels=32,  # two layers of height: 64 channels of the map
    ),
    backbone=dict(
        type="SECOND",
        in_channels=64,
        layer_nums=[1, 3],
        layer_strides=[1, 2],
        out_channels=[64, 96],
    ),
    neck=dict(
        type="SECONDFPN",
        in_channels=[64, 96],
        upsample_strides=[1, 2],
        out_channels=[64, 64],
    ),
    bbox_head=dict(
        type="Anchor3DHead",
        num_classes=1,
        in_channels=128,
        feat_channels=128,
        use_direction_classifier=True,
        anchor_generator=dict(
            type="AlignedAnchor3DRangeGenerator",
            # Cars stand on the road 1.78 m below the sensor (stock configs).
            ranges=[[0, -25.6, -1.78, 51.2, 25.6, -1.78]],
            sizes=[[3.9, 1.6, 1.56]],  # mean of KITTI's cars, m
            rotations=[0, 1.57],
            reshape_out=True,
        ),
        diff_rad_by_sin=True,
        bbox_coder=dict(type="DeltaXYZWLHRBBoxCoder"),
        loss_cls=dict(
            type="mmdet.FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0
        ),
        loss_bbox=dict(type="mmdet.SmoothL1Loss", beta=1.0 / 9.0, loss_weight=2.0),
        loss_dir=dict(type="mmdet.CrossEntropyLoss", use_sigmoid=False, loss_weight=0.2),
    ),
    train_cfg=dict(
        assigner=dict(
            type="Max3DIoUAssigner",
            iou_calculator=dict(type="BboxOverlapsNearest3D"),
            pos_iou_thr=0.6,
            neg_iou_thr=0.45,
            min_pos_iou=0.45,
            ignore_iof_thr=-1,
        ),
        allowed_border=0,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(
        use_rotate_nms=True,
        nms_across_levels=False,
        nms_thr=0.01,
        score_thr=0.1,
        min_bbox_size=0,
        nms_pre=100,
        max_num=50,
    ),
)

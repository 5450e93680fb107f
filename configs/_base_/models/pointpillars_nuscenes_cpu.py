# PointPillars for the ten classes of nuScenes: the network of centerpoint_cpu.py with the anchors
# and the head of the stock model (SECFPN).
_base_ = "./centerpoint_cpu.py"

ground = -1.8  # m: the road below the sensor
model = dict(
    type="MVXFasterRCNN",
    pts_bbox_head=dict(
        _delete_=True,
        type="Anchor3DHead",
        num_classes=10,
        in_channels=96,
        feat_channels=96,
        use_direction_classifier=True,
        anchor_generator=dict(
            type="AlignedAnchor3DRangeGenerator",
            ranges=[[-51.2, -51.2, ground, 51.2, 51.2, ground]],
            sizes=[
                [4.61, 1.95, 1.73],  # car
                [6.74, 2.46, 2.73],  # truck, construction vehicle
                [12.01, 2.87, 3.82],  # trailer, bus
                [1.68, 0.60, 1.27],  # bicycle, motorcycle
                [0.73, 0.66, 1.76],  # pedestrian
                [0.40, 0.40, 1.06],  # traffic cone
                [0.49, 2.49, 0.98],  # barrier
            ],
            custom_values=[0, 0],
            rotations=[0, 1.57],
            reshape_out=True,
        ),
        assigner_per_size=False,
        diff_rad_by_sin=True,
        dir_offset=-0.7854,  # -pi / 4
        bbox_coder=dict(type="DeltaXYZWLHRBBoxCoder", code_size=9),
        loss_cls=dict(
            type="mmdet.FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0
        ),
        loss_bbox=dict(type="mmdet.SmoothL1Loss", beta=1.0 / 9.0, loss_weight=1.0),
        loss_dir=dict(type="mmdet.CrossEntropyLoss", use_sigmoid=False, loss_weight=0.2),
    ),
    train_cfg=dict(
        _delete_=True,
        pts=dict(
            assigner=dict(
                type="Max3DIoUAssigner",
                iou_calculator=dict(type="BboxOverlapsNearest3D"),
                pos_iou_thr=0.6,
                neg_iou_thr=0.3,
                min_pos_iou=0.1,  # 0.3 of the stock model leaves pedestrians to cells of 0.5 m
                ignore_iof_thr=-1,
            ),
            allowed_border=0,
            code_weight=[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2],
            pos_weight=-1,
            debug=False,
        ),
    ),
    test_cfg=dict(
        _delete_=True,
        pts=dict(
            use_rotate_nms=True,
            nms_across_levels=False,
            nms_pre=1000,
            nms_thr=0.2,
            score_thr=0.05,
            min_bbox_size=0,
            max_num=500,
        ),
    ),
)

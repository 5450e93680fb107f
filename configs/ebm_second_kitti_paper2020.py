# The energy head of the 2020 paper on the host's full-size SECOND: docs/method.md.
_base_ = ["./second_kitti.py", "./_base_/heads/paper2020.py"]
detector_config = "second_kitti.py"

model = dict(
    type="RefinedVoxelNet",
    bbox_head=dict(
        _delete_=True,
        type="RefinedDenseHead",
        dense_head=_base_.model.bbox_head,
        refinement_head=dict(
            in_channels=_base_.model.bbox_head.in_channels,
            point_cloud_range=_base_.point_cloud_range,
            **_base_.refinement_head,
        ),
    ),
)

max_epochs = 80  # as published: 80 epochs of batch 2, one cycle up to 0.003
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.003, betas=(0.95, 0.99), weight_decay=0.01),
    clip_grad=dict(max_norm=10, norm_type=2),
)
rising = 32  # epochs: 0.4 of all
param_scheduler = [
    dict(
        type="OneCycleLR",
        eta_max=0.003,
        total_steps=max_epochs,
        pct_start=0.4,
        div_factor=10,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type="CosineAnnealingMomentum",
        T_max=rising,
        eta_min=0.85,
        begin=0,
        end=rising,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type="CosineAnnealingMomentum",
        T_max=max_epochs - rising,
        eta_min=0.95,
        begin=rising,
        end=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=5)

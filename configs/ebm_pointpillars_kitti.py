# EBM refinement of cars on the host's full-size PointPillars, frozen; give a checkpoint of
# pointpillars_kitti.py, or the host's own, with --cfg-options load_from=CHECKPOINT.
_base_ = ["./pointpillars_kitti.py", "./_base_/heads/ebm_head.py"]

model = dict(
    data_preprocessor=dict(type="RefinementDataPreprocessor"),
    bbox_head=dict(
        _delete_=True,
        type="RefinedDenseHead",
        detector="frozen",
        dense_head=_base_.model.bbox_head,
        refinement_head=dict(
            in_channels=_base_.model.bbox_head.in_channels,
            point_cloud_range=_base_.point_cloud_range,
            **_base_.refinement_head,
        ),
    ),
)

max_epochs = 12
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.002, betas=(0.95, 0.99), weight_decay=0.01),
    clip_grad=dict(max_norm=10, norm_type=2),
)
param_scheduler = [
    dict(
        type="OneCycleLR",
        eta_max=0.002,
        total_steps=max_epochs,
        pct_start=0.4,
        div_factor=10,
        final_div_factor=1000,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
train_cfg = dict(max_epochs=max_epochs, val_interval=2)

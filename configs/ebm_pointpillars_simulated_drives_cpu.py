# EBM refinement on the frozen detector of pointpillars_simulated_drives_cpu.py: its newest
# checkpoint, or --cfg-options load_from=CHECKPOINT; without either both are trained in one run.
_base_ = [
    "./pointpillars_simulated_drives_cpu.py",
    "./_base_/heads/ebm_drives_cpu.py",
    "./_base_/schedules/refinement.py",
]
detector_config = "pointpillars_simulated_drives_cpu.py"

model = dict(
    type="RefinedMVXFasterRCNN",
    pts_bbox_head=dict(
        _delete_=True,
        type="RefinedDenseHead",
        dense_head=_base_.model.pts_bbox_head,
        refinement_head=dict(
            in_channels=_base_.model.pts_bbox_head.in_channels,
            point_cloud_range=_base_.point_cloud_range,
            class_names=_base_.class_names,
            **_base_.refinement_head,
        ),
    ),
)
optim_wrapper = dict(_delete_=True, **_base_.refinement_schedule.optim_wrapper)
max_epochs = _base_.refinement_epochs
param_scheduler = _base_.refinement_schedule.param_scheduler
train_cfg = dict(_delete_=True, by_epoch=True, max_epochs=max_epochs, val_interval=max_epochs)
train_dataloader = dict(batch_size=1)  # twice the steps in the time: a frame has fifty true boxes

# EBM refinement of pedestrians, cyclists and cars on the frozen detector of second_kitti_3class.py,
# or the host's (--cfg-options load_from=CHECKPOINT); without one both are trained in one run.
_base_ = [
    "./second_kitti_3class.py",
    "./_base_/heads/ebm_3class.py",
    "./_base_/schedules/refinement.py",
]
detector_config = "second_kitti_3class.py"

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
optim_wrapper = dict(_delete_=True, **_base_.refinement_schedule.optim_wrapper)
param_scheduler = _base_.refinement_schedule.param_scheduler
train_cfg = dict(_delete_=True, **_base_.refinement_schedule.train_cfg)

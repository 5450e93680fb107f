# EBM refinement on the frozen detector of pointpillars_nuscenes.py: its newest checkpoint, or
# --cfg-options load_from=CHECKPOINT; without either both are trained in one run.
_base_ = [
    "./pointpillars_nuscenes.py",
    "./_base_/heads/ebm_nuscenes.py",
    "./_base_/schedules/refinement.py",
]
detector_config = "pointpillars_nuscenes.py"

refinement_head = _base_.refinement_head
# The stock PointPillars reads no intensity: its points are x, y, z, time lag.
refinement_head.pooling[1].update(num_features=4, time_feature=3, feature_scales=(1.0,))
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
            **refinement_head,
        ),
    ),
)
optim_wrapper = dict(_delete_=True, **_base_.refinement_schedule.optim_wrapper)
param_scheduler = _base_.refinement_schedule.param_scheduler
train_cfg = dict(_delete_=True, **_base_.refinement_schedule.train_cfg)

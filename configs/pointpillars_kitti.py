# The host's PointPillars for cars at full size, evaluated without CUDA and resumable.
_base_ = [
    "mmdet3d::pointpillars/pointpillars_hv_secfpn_8xb6-160e_kitti-3d-car.py",
    "./_base_/plugin.py",
]

train_pipeline = _base_.train_pipeline
train_pipeline[2].update(use_ground_plane=False)  # its files are not part of KITTI
train_dataloader = dict(
    persistent_workers=False,  # EpochSeedHook seeds workers as they start
    dataset=dict(dataset=dict(pipeline=train_pipeline)),
)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=3))
val_evaluator = dict(
    _delete_=True, type="EBM3DKittiMetric", ann_file=_base_.data_root + "kitti_infos_val.pkl"
)
test_evaluator = val_evaluator

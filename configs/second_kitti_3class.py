# The host's SECOND for pedestrians, cyclists and cars at full size, evaluated
# without CUDA and resumable.
_base_ = [
    "mmdet3d::second/second_hv_secfpn_8xb6-80e_kitti-3d-3class.py",
    "./_base_/plugin.py",
]

train_dataloader = dict(persistent_workers=False)  # EpochSeedHook seeds workers as they start
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=3))
val_evaluator = dict(
    _delete_=True, type="EBM3DKittiMetric", ann_file=_base_.data_root + "kitti_infos_val.pkl"
)
test_evaluator = val_evaluator

# The host's PointPillars of nuScenes (SECFPN) at full size, evaluated without CUDA and resumable.
_base_ = [
    "mmdet3d::pointpillars/pointpillars_hv_secfpn_sbn-all_8xb4-2x_nus-3d.py",
    "./_base_/plugin.py",
]

train_dataloader = dict(persistent_workers=False)  # EpochSeedHook seeds workers as they start
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=3))
val_evaluator = dict(
    _delete_=True, type="EBM3DNuScenesMetric", ann_file=_base_.data_root + "nuscenes_infos_val.pkl"
)
test_evaluator = val_evaluator

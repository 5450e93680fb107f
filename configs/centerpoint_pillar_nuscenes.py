# The host's CenterPoint with pillars of 0.2 m at full size, evaluated without CUDA and resumable.
_base_ = [
    "mmdet3d::centerpoint/centerpoint_pillar02_second_secfpn_8xb4-cyclic-20e_nus-3d.py",
    "./_base_/plugin.py",
]

train_dataloader = dict(persistent_workers=False)  # EpochSeedHook seeds workers as they start
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=3))
val_evaluator = dict(
    _delete_=True, type="EBM3DNuScenesMetric", ann_file=_base_.data_root + "nuscenes_infos_val.pkl"
)
test_evaluator = val_evaluator

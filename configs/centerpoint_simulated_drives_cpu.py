# CenterPoint with pillars on simulated drives, ten classes within 51.2 m, on a CPU.
_base_ = [
    "./_base_/models/centerpoint_cpu.py",
    "./_base_/datasets/simulated_drives_cpu.py",
    "./_base_/schedules/cpu.py",
    "./_base_/runtime.py",
]

point_cloud_range = _base_.point_cloud_range
model = dict(
    data_preprocessor=dict(voxel_layer=dict(point_cloud_range=point_cloud_range)),
    pts_voxel_encoder=dict(point_cloud_range=point_cloud_range),
    pts_bbox_head=dict(bbox_coder=dict(pc_range=point_cloud_range[:2])),
    train_cfg=dict(pts=dict(point_cloud_range=point_cloud_range)),
    test_cfg=dict(pts=dict(pc_range=point_cloud_range[:2])),
)

max_epochs = 12
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)

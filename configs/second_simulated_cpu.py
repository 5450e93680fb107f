# SECOND on simulated frames, cars within 51.2 m x 51.2 m, on a CPU.
_base_ = [
    "./_base_/models/second_cpu.py",
    "./_base_/datasets/simulated_cpu.py",
    "./_base_/schedules/cpu.py",
    "./_base_/runtime.py",
]

model = dict(data_preprocessor=dict(voxel_layer=dict(point_cloud_range=_base_.point_cloud_range)))

max_epochs = 6
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)

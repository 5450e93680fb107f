# PointPillars for one class on a scene of 51.2 m x 51.2 m, sized to train on a CPU: pillars of
# 0.2 m instead of 0.16 m, half the channels, a map of 0.4 m a cell as the SECOND beside it.
_base_ = "./second_cpu.py"
voxel_size = [0.2, 0.2, 4]  # m

model = dict(
    data_preprocessor=dict(
        voxel_layer=dict(max_num_points=20, voxel_size=voxel_size, max_voxels=(12000, 20000)),
    ),
    voxel_encoder=dict(
        _delete_=True,
        type="PillarFeatureNet",
        in_channels=4,
        feat_channels=[32],
        with_distance=False,
        voxel_size=voxel_size,
    ),
    middle_encoder=dict(
        _delete_=True, type="PointPillarsScatter", in_channels=32, output_shape=[256, 256]
    ),
    backbone=dict(
        in_channels=32,
        layer_nums=[2, 3],
        layer_strides=[2, 2],
        out_channels=[64, 96],
    ),
)

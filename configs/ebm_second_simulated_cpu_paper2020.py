# The energy head of the 2020 paper on the frozen CPU-sized SECOND; docs/method.md.
_base_ = [
    "./_base_/models/second_cpu.py",
    "./_base_/datasets/simulated_cpu.py",
    "./_base_/heads/ebm_head_paper2020.py",
    "./_base_/schedules/refinement_5e.py",
    "./_base_/runtime.py",
]

model = dict(
    data_preprocessor=dict(
        type="RefinementDataPreprocessor",
        voxel_layer=dict(point_cloud_range=_base_.point_cloud_range),
    ),
    bbox_head=dict(
        _delete_=True,
        type="RefinedDenseHead",
        detector="frozen",
        dense_head=_base_.model.bbox_head,
        refinement_head=dict(
            in_channels=_base_.model.bbox_head.in_channels,
            point_cloud_range=_base_.point_cloud_range,
            **_base_.refinement_head,
        ),
    ),
)

# The energy head of the 2020 paper on the frozen CPU-sized SECOND, in our short schedule.
_base_ = [
    "./second_simulated_cpu.py",
    "./_base_/heads/ebm_head_paper2020.py",
    "./_base_/schedules/refinement_5e.py",
]

model = dict(
    data_preprocessor=dict(type="RefinementDataPreprocessor"),
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
optim_wrapper = dict(_delete_=True, **_base_.refinement_schedule.optim_wrapper)
param_scheduler = _base_.refinement_schedule.param_scheduler
train_cfg = dict(_delete_=True, **_base_.refinement_schedule.train_cfg)

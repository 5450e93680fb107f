# PROPEL regression as a second stage on the frozen detector of second_simulated_cpu.py;
# give its checkpoint with --cfg-options load_from=CHECKPOINT.
_base_ = ["../ebm_second_simulated_cpu.py", "../_base_/regressions/propel.py"]

model = dict(
    bbox_head=dict(
        refinement_head=dict(
            _delete_=True,
            type="RegressionRefinementHead",
            in_channels=_base_.model.bbox_head.refinement_head.in_channels,
            point_cloud_range=_base_.point_cloud_range,
            network=dict(type="RegressionNetwork", mean_sizes=_base_.mean_sizes),
            regression=_base_.regression,
            num_iterations=_base_.num_iterations,
            **_base_.box_features,
        )
    )
)

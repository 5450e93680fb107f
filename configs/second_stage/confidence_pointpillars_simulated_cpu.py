# The network of the EBM head trained to predict the 3D IoU of a box, which refinement then climbs.
_base_ = ["../ebm_pointpillars_simulated_cpu.py"]

model = dict(
    bbox_head=dict(
        refinement_head=dict(
            loss=dict(_delete_=True, type="ConfidenceLoss", target="iou", num_noise_samples=64),
            # Better than quasi-Newton steps here; 2 of 0.5, 2, 8: design frames (docs/results.md).
            refiner=dict(type="GradientAscent", step_size=2.0),
        )
    )
)

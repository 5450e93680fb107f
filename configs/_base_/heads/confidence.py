# The energy network trained to predict the 3D IoU of a box; refinement climbs it.
refinement_head = dict(
    loss=dict(_delete_=True, type="ConfidenceLoss", target="iou", num_noise_samples=64),
    # Better than quasi-Newton steps here; 2 of 0.5, 2, 8: design frames (docs/results.md).
    refiner=dict(type="GradientAscent", step_size=2.0),
)

# Direct regression: smooth L1; dense: the host's loss, the yaw by the sine of its difference.
dense_head = dict(
    regression=dict(
        type="DirectBoxRegression",
        kind="smooth_l1",
        beta=1.0 / 9.0,
        sin_difference=True,
        loss_weight=2.0,
    )
)
refinement_head = dict(
    regression=dict(type="DirectBoxRegression", kind="smooth_l1", beta=1.0 / 9.0),
    num_iterations=3,  # of 1, 2, 3, on design frames (docs/results.md)
)

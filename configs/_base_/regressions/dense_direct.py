# The host's own box regression: smooth L1, the yaw by the sine of its difference.
regression = dict(
    type="DirectBoxRegression",
    kind="smooth_l1",
    beta=1.0 / 9.0,
    sin_difference=True,
    loss_weight=2.0,
)

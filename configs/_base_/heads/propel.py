# PROPEL: a mixture of three Gaussians of the residuals.
dense_head = dict(
    regression=dict(
        type="PROPELBoxRegression",
        num_components=3,
        target_std=0.05,  # half the standard deviation of residuals from anchors
        point_estimate="mode",  # one component fits, the others stray
        loss_weight=0.2,  # at errors of 0.1 the gradient of the stock loss, 2; not tuned
    )
)
refinement_head = dict(
    regression=dict(type="PROPELBoxRegression", num_components=3, target_std=0.3),
    num_iterations=3,  # of 1, 2, 3, on design frames (docs/results.md)
)

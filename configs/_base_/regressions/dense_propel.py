# PROPEL, mixtures of three Gaussians of residuals from anchors.
regression = dict(
    type="PROPELBoxRegression",
    num_components=3,
    target_std=0.05,  # half of what residuals from anchors scatter by
    point_estimate="mode",  # of a mixture that fits, one component does; the others stray
    loss_weight=0.2,  # at errors of 0.1 the gradient of the stock loss, 2; not tuned
)

# Laplace residuals from anchors, a median and a scale each.
regression = dict(
    type="LaplaceBoxRegression",
    loss_weight=0.2,  # at errors of 0.1 the gradient of the stock loss, 2; not tuned
)

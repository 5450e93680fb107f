# Gaussian residuals from anchors, a mean and a variance each.
regression = dict(
    type="GaussianBoxRegression",
    loss_weight=0.2,  # at errors of 0.1 the gradient of the stock loss, 2; not tuned
)

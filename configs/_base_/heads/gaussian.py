# Gaussian regression: a mean and a variance of every residual.
dense_head = dict(
    regression=dict(
        type="GaussianBoxRegression",
        loss_weight=0.2,  # at errors of 0.1 the gradient of the stock loss, 2; not tuned
    )
)
refinement_head = dict(
    regression=dict(type="GaussianBoxRegression"),
    num_iterations=3,  # of 1, 2, 3, on design frames (docs/results.md)
)

# Regression by classification into bins.
bounds = [0.3, 0.3, 1.0, 0.4, 0.4, 0.4, 0.85]  # of residuals from anchors, see rlel.py
dense_head = dict(
    regression=dict(
        type="BinnedBoxRegression",
        soft_label="linear",
        num_levels=64,
        lower=[-b for b in bounds],
        upper=bounds,
    )
)
refinement_head = dict(
    regression=dict(
        type="BinnedBoxRegression",
        soft_label="linear",
        num_levels=64,
        lower=-5.0,  # standard deviations of the noise, see rlel.py
        upper=5.0,
    ),
    num_iterations=3,  # of 1, 2, 3, on design frames (docs/results.md)
)

# Regression by classification in a second stage.
# Residuals are in standard deviations of the noise (_base_/heads/ebm_head.py): of order one.
regression = dict(
    type="BinnedBoxRegression",
    num_levels=64,
    lower=[-5.0] * 7,  # beyond lies 0.4 % of the noise of the widest component, a third of all
    upper=[5.0] * 7,
    soft_label="linear",
)
num_iterations = 3  # of 1, 2, 3, on design frames (docs/results.md)

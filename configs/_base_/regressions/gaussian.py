# Gaussian regression in a second stage.
# Residuals are in standard deviations of the noise (_base_/heads/ebm_head.py): of order one.
regression = dict(type="GaussianBoxRegression")
num_iterations = 3  # of 1, 2, 3, on design frames (docs/results.md)

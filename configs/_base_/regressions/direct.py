# Smooth L1 in a second stage.
# Residuals are in standard deviations of the noise (_base_/heads/ebm_head.py): of order one.
regression = dict(type="DirectBoxRegression", kind="smooth_l1", beta=1.0 / 9.0)
num_iterations = 3  # of 1, 2, 3, on design frames (docs/results.md)

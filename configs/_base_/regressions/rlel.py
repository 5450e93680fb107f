# Learned label encodings with both regularizers in a second stage.
# Residuals are in standard deviations of the noise (_base_/heads/ebm_head.py): of order one.
regression = dict(
    type="RLELBoxRegression",
    num_levels=64,
    num_bits=32,
    lower=[-5.0] * 7,  # beyond lies 0.4 % of the noise of the widest component, a third of all
    upper=[5.0] * 7,
    distance_weight=1e-4,  # both chosen on made-up targets (docs/results.md)
    smoothness_weight=1e-2,
)
num_iterations = 3  # of 1, 2, 3, on design frames (docs/results.md)

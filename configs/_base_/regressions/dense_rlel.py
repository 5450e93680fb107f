# Learned label encodings, with both regularizers, of residuals from anchors.
_base_ = "./dense_levels.py"

regression = dict(
    type="RLELBoxRegression",
    num_bits=32,
    distance_weight=1e-3,
    smoothness_weight=1e-3,
    **_base_.levels,
)

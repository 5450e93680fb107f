# Regression by classification of residuals from anchors.
_base_ = "./dense_levels.py"

regression = dict(type="BinnedBoxRegression", soft_label="linear", **_base_.levels)

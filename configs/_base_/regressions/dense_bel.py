# Binary label encodings of residuals from anchors.
_base_ = "./dense_levels.py"

regression = dict(type="BELBoxRegression", codebook="johnson", loss="ce", **_base_.levels)

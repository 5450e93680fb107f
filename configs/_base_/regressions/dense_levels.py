# The levels of label encodings in a dense head: 64 over what positive anchors have to say.
# Residuals from anchors of cars in 72 and 170 augmented frames of KITTI and of the simulated set
# reach +-0.23 (x, y), -0.64 to 0.82 (z), +-0.38 (log sizes) and +-0.79 rad (yaw).
_bounds = [0.3, 0.3, 1.0, 0.4, 0.4, 0.4, 0.85]
levels = dict(num_levels=64, lower=[-b for b in _bounds], upper=_bounds)

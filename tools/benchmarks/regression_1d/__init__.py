"""One-dimensional regression: every training method on two known densities (docs/method.md, M-32).

K models; B examples of a batch; M samples of an example; S values of y; H = 10 units of a layer.
"""

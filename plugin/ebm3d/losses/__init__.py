"""Training methods: one function each, per element, in log space, no reduction."""

from ebm3d.losses.nce import NCELoss, nce_loss

__all__ = ["NCELoss", "nce_loss"]

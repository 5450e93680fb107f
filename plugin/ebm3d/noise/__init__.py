"""Noise distributions q(y | y_i) of noise contrastive estimation and importance sampling."""

from ebm3d.noise.box_noise import BoxNoise, NoiseSamples

__all__ = ["BoxNoise", "NoiseSamples"]

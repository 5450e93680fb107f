"""Noise distributions q(y | y_i) of noise contrastive estimation and importance sampling."""

from ebm3d.noise.box_noise import BoxNoise, NoiseSamples
from ebm3d.noise.fit import fit_noise_stds

__all__ = ["BoxNoise", "NoiseSamples", "fit_noise_stds"]

"""Noise distributions q(y | y_i) of noise contrastive estimation and importance sampling."""

from ebm3d.noise.bound_noise import BoundNoise, NoiseSamples
from ebm3d.noise.box_noise import BoxNoise
from ebm3d.noise.fit import fit_noise_stds

__all__ = ["BoundNoise", "BoxNoise", "NoiseSamples", "fit_noise_stds"]

"""The training methods with their published constants, and the training of K models by one.

An energy's loss is a function of f and y ``(K, B)``; it returns losses ``(K, B)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Laplace, MixtureSameFamily, Normal

from ebm3d.codecs import soft_labels
from ebm3d.densities import HistogramDensity
from ebm3d.losses import (
    code_distance_penalty,
    code_smoothness_penalty,
    dsm_loss,
    gradient_of,
    kldis_loss,
    mcmc_loss,
    mlis_loss,
    nce_loss,
    propel_loss,
    proposal_loss,
    score_matching_loss,
    snl_loss,
    soft_cross_entropy,
)
from ebm3d.refiners import langevin
from regression_1d.networks import BoundEnergy, EnergyModels, RegressionModels
from regression_1d.problem import RANGE

NUM_EPOCHS, BATCH_SIZE, NUM_SAMPLES = 75, 32, 1024
NUM_COMPONENTS = 4
NUM_LEVELS, NUM_BITS = 128, 64
PROPEL_STD = 0.05
NARROW, WIDE = (0.1, 0.8), (0.2, 1.6)  # standard deviations of the noise

Energy = Callable[[Tensor], Tensor]
LogDensity = Callable[[Any, Tensor, Tensor], Tensor]


# Energies: f alone.


def centered_noise(stds: tuple[float, ...]) -> MixtureSameFamily:
    """Equal mixture of Gaussians around zero.

    As published, one draw of M offsets serves the whole batch of a model.
    """
    weights = Categorical(torch.ones(len(stds)))
    return _mixture(weights, torch.zeros(len(stds)), torch.tensor(stds))


def nce(f: Energy, y: Tensor, m: int, stds: tuple[float, ...] = NARROW, beta: float = 0) -> Tensor:
    """NCE (M-3), and NCE+ (M-21) where beta, a factor of the standard deviations, is not zero."""
    noise = centered_noise(stds)
    positive = beta * noise.sample(y.shape)
    offsets = _with_first(positive, noise.sample((len(y), 1, m)))
    return nce_loss(f(y[..., None] + offsets), noise.log_prob(offsets))


def conditional_nce(f: Energy, y: Tensor, m: int, stds: tuple[float, ...] = NARROW) -> Tensor:
    """NCE around a noisy value (M-33); the noise is symmetric, so its densities cancel."""
    noise = centered_noise(stds)
    center = y + noise.sample(y.shape)
    values = f(_with_first(y, center[..., None] + noise.sample((len(y), 1, m))))
    return nce_loss(values, torch.zeros_like(values))


def ml_is(f: Energy, y: Tensor, m: int, stds: tuple[float, ...] = WIDE) -> Tensor:
    """Likelihood with an importance-sampled normalizer (M-22)."""
    f_true, values, log_q, _ = _sampled(f, y, m, stds)
    return mlis_loss(f_true, values, log_q)


def kld_is(f: Energy, y: Tensor, m: int, label_std: float = 0.025) -> Tensor:
    """Divergence from a narrow Gaussian around the label (M-22)."""
    _, values, log_q, offsets = _sampled(f, y, m, WIDE)
    log_p = Normal(0.0, label_std).log_prob(offsets)
    return kldis_loss(values, log_q, log_p.expand_as(values))


def ml_mcmc(f: Energy, y: Tensor, m: int, step_size: float, num_steps: int = 16) -> Tensor:
    """Contrast with M Langevin chains from each true value (M-23)."""
    start = y[..., None, None].expand(-1, -1, m, 1)
    chains = langevin(lambda points: f(points[..., 0]), start, step_size, num_steps)[..., 0]
    values = f(_with_first(y, chains))
    return mcmc_loss(values[..., 0], values[..., 1:])


def score_matching(f: Energy, y: Tensor, m: int) -> Tensor:
    """Exact score matching at the true values (M-24)."""
    return score_matching_loss(lambda points: f(points)[..., 0], y[..., None])


def dsm(f: Energy, y: Tensor, m: int, std: float) -> Tensor:
    """Denoising score matching with M noisy values (M-24)."""
    offsets = (std * torch.randn(len(y), 1, m)).expand(*y.shape, m)[..., None]
    points = y[..., None, None] + offsets
    return dsm_loss(gradient_of(lambda p: f(p[..., 0]), points), offsets, std**2).mean(dim=-1)


def quadrature(f: Energy, y: Tensor, m: int) -> Tensor:
    """Likelihood with the normalizer by a grid over the range of y, shifted at random."""
    steps = torch.arange(m) + torch.rand(len(y), 1, 1)
    points = (2 * RANGE / m * steps - RANGE).expand(*y.shape, m)
    values = f(_with_first(y, points))
    log_q = torch.full_like(points, -math.log(2 * RANGE))
    return mlis_loss(values[..., 0], values[..., 1:], log_q)


def snl(f: BoundEnergy, y: Tensor, m: int, stds: tuple[float, ...] = NARROW) -> Tensor:
    """Self-normalized likelihood: the second head is the log normalizer (M-25)."""
    f_true, values, log_q, _ = _sampled(f, y, m, stds)
    return snl_loss(f_true, values, log_q, f.outputs()[..., 0])


def proposal(f: BoundEnergy, y: Tensor, m: int) -> Tensor:
    """NCE with samples of a mixture that learns the density of f, on detached features (M-26)."""
    q = gaussian_mixture(f.outputs(detach=True))
    points = _with_first(y, q.sample((m,)).movedim(0, -1))
    values, log_q = f(points), q.log_prob(points.movedim(-1, 0)).movedim(0, -1)
    return nce_loss(values, log_q.detach()) + proposal_loss(values[..., 1:], log_q[..., 1:])


def _sampled(f: Energy, y: Tensor, m: int, stds: tuple[float, ...]) -> tuple[Tensor, ...]:
    """f of y ``(K, B)``, f of noise samples around it and their log q ``(K, B, M)``, offsets."""
    noise = centered_noise(stds)
    offsets = noise.sample((len(y), 1, m))
    values = f(_with_first(y, y[..., None] + offsets))
    log_q = noise.log_prob(offsets).expand(*y.shape, m)
    return values[..., 0], values[..., 1:], log_q, offsets


def _with_first(first: Tensor, others: Tensor) -> Tensor:
    """Put ``(K, B)`` before ``(K, 1 or B, M)``: ``(K, B, M + 1)``."""
    return torch.cat((first[..., None], others.expand(*first.shape, -1)), dim=-1)


# Densities of outputs ``(K, B, P)``, one for each row, and regressions to them.


def gaussian(outputs: Tensor) -> Distribution:
    """Mean and log variance."""
    return Normal(outputs[..., 0], torch.exp(outputs[..., 1] / 2), validate_args=False)


def laplace(outputs: Tensor) -> Distribution:
    """Median and log scale."""
    return Laplace(outputs[..., 0], torch.exp(outputs[..., 1]), validate_args=False)


def gaussian_mixture(outputs: Tensor) -> Distribution:
    """Logits, means, log variances; standard deviations in [0.01, 4], or proposals diverge."""
    logits, means, log_variances = outputs.chunk(3, dim=-1)
    return _mixture(Categorical(logits=logits), means, torch.exp(log_variances / 2).clamp(0.01, 4))


def propel_mixture(outputs: Tensor) -> Distribution:
    """Equal mixture: means, log variances in units of the target's."""
    means, log_variances = outputs.chunk(2, dim=-1)
    stds = PROPEL_STD * torch.exp(log_variances / 2)
    return _mixture(Categorical(torch.ones_like(means)), means, stds)


def propel(models: RegressionModels, x: Tensor, y: Tensor) -> Tensor:
    """Overlap of an equal mixture with a Gaussian around the true value (M-11)."""
    means, log_variances = models(x).flatten(0, 1)[..., None].chunk(2, dim=1)
    log_variances = log_variances + 2 * math.log(PROPEL_STD)
    return propel_loss(y.reshape(-1, 1), means, log_variances, PROPEL_STD**2).view_as(y)


def binned(models: RegressionModels, x: Tensor, y: Tensor) -> Tensor:
    """Classification into bins with soft labels (M-14)."""
    return soft_cross_entropy(models(x), soft_labels(levels(y), NUM_LEVELS, "linear"))


def rlel(models: RegressionModels, x: Tensor, y: Tensor) -> Tensor:
    """Learned label encodings: levels scored by codes that are learned, too (M-13)."""
    codes, labels = models(x), levels(y)
    losses = soft_cross_entropy(codes @ models.codebook, soft_labels(labels, NUM_LEVELS, "laplace"))
    # The penalties take one code per dimension; here the models are the dimensions.
    apart = code_distance_penalty(codes.transpose(0, 1), labels.T)
    return losses + 1e-3 * (apart + code_smoothness_penalty(models.codebook))[:, None]


def levels(y: Tensor) -> Tensor:
    """y in levels, 0 to L - 1 over the range; what lies outside saturates."""
    return ((y + RANGE) * ((NUM_LEVELS - 1) / (2 * RANGE))).clamp(0, NUM_LEVELS - 1)


def _mixture(weights: Categorical, means: Tensor, stds: Tensor) -> MixtureSameFamily:
    """Mixture of Gaussians."""
    return MixtureSameFamily(weights, Normal(means, stds, validate_args=False), validate_args=False)


# Log densities ``(K, X, Y)``, up to a constant for each x, of x ``(X,)`` and y ``(Y,)``.


def _energy_density(models: EnergyModels, x: Tensor, y: Tensor) -> Tensor:
    """f."""
    f = models.bind(x.expand(models.num_models, -1))
    return f(y.expand(models.num_models, len(x), -1))


def _proposal_density(models: EnergyModels, x: Tensor, y: Tensor) -> Tensor:
    """The learned proposal's."""
    outputs = models.bind(x.expand(models.num_models, -1)).outputs()
    return gaussian_mixture(outputs).log_prob(y[:, None, None]).movedim(0, -1)


def _output_density(
    density: Callable[[Tensor], Distribution], models: RegressionModels, x: Tensor, y: Tensor
) -> Tensor:
    """A regression's."""
    outputs = models(x.expand(models.num_models, -1))
    return density(outputs).log_prob(y[:, None, None]).movedim(0, -1)


def _level_density(models: RegressionModels, x: Tensor, y: Tensor) -> Tensor:
    """A histogram's."""
    scores = models(x.expand(models.num_models, -1))
    if hasattr(models, "codebook"):
        scores = scores @ models.codebook
    log_masses = scores.log_softmax(-1).flatten(0, 1)[:, None]
    density = HistogramDensity(log_masses, (-RANGE,), (RANGE,))
    log_prob = density.log_prob(y[:, None, None].expand(-1, len(log_masses), 1))
    return log_prob.T.unflatten(0, scores.shape[:2])


@dataclass(frozen=True)
class Method:
    """What to train and how; ``densities`` are those it learns, title and function by name."""

    build: Callable[[int], nn.Module]
    loss: Callable[[Any, Tensor, Tensor], Tensor]
    densities: dict[str, tuple[str, LogDensity]]
    learning_rate: float = 1e-3
    cosine: bool = False

    def annealed(self) -> Method:
        """The method with a learning rate that starts high and falls to zero (docs/results.md)."""
        densities = {
            f"{name}_annealed": (f"{title}, annealed", density)
            for name, (title, density) in self.densities.items()
        }
        return replace(self, densities=densities, learning_rate=1e-2, cosine=True)


def make_methods(problem: str, num_samples: int = NUM_SAMPLES) -> dict[str, Method]:
    """Return all methods by name, with the published constants for a problem.

    Energies follow once more as ``<name>_annealed``; chains excepted, which are slow.
    """

    def energy(name: str, title: str, losses: Any, num_outputs: int = 0, **constants: Any) -> Any:
        build = partial(EnergyModels, num_outputs=num_outputs)
        loss = partial(_energy_loss, partial(losses, m=num_samples, **constants))
        return name, Method(build, loss, {name: (title, _energy_density)})

    first = problem == "set1"
    energies = dict([
        energy("nce", "NCE", nce),
        energy("nce_plus", "NCE+", nce, beta=0.025),
        energy("conditional_nce", "conditional NCE", conditional_nce),
        energy("ml_is", "ML-IS", ml_is),
        energy("kld_is", "KLD-IS", kld_is),
        energy("ml_mcmc", "ML-MCMC-16", ml_mcmc, step_size=0.05 if first else 0.0125),
        energy("sm", "SM", score_matching),
        energy("dsm", "DSM", dsm, std=0.2 if first else 0.075),
        energy("snl", "SNL", snl, num_outputs=1),
        energy("proposal", "proposal, f", proposal, num_outputs=3 * NUM_COMPONENTS),
    ])  # fmt: skip
    energies["proposal"].densities["proposal_mdn"] = ("proposal, q", _proposal_density)
    _, normalized = energy("quadrature", "quadrature", partial(quadrature, m=num_samples // 4))

    def regression(title: str, density: Any, num_outputs: int, loss: Any = None) -> Method:
        loss = partial(_likelihood_loss, density) if loss is None else loss
        build = partial(RegressionModels, num_outputs=num_outputs)
        return Method(build, loss, {title.lower(): (title, partial(_output_density, density))})

    annealed = {f"{n}_annealed": m.annealed() for n, m in energies.items() if n != "ml_mcmc"}
    coded = partial(RegressionModels, num_outputs=NUM_BITS, num_levels=NUM_LEVELS)
    return {
        **energies,
        **annealed,
        "quadrature_annealed": normalized.annealed(),
        "gaussian": regression("Gaussian", gaussian, 2),
        "laplace": regression("Laplace", laplace, 2),
        "mdn": regression("MDN", gaussian_mixture, 3 * NUM_COMPONENTS),
        "propel": regression("PROPEL", propel_mixture, 2 * NUM_COMPONENTS, propel),
        "rlel": Method(coded, rlel, {"rlel": ("RLEL", _level_density)}),
        "binned": Method(
            partial(RegressionModels, num_outputs=NUM_LEVELS), binned,
            {"binned": ("binned", _level_density)},
        ),
    }  # fmt: skip


def _energy_loss(losses: Any, models: EnergyModels, x: Tensor, y: Tensor) -> Tensor:
    """Losses of f bound to x."""
    return losses(models.bind(x), y)


def _likelihood_loss(density: Any, models: RegressionModels, x: Tensor, y: Tensor) -> Tensor:
    """Negative log likelihood of a density of the outputs."""
    return -density(models(x)).log_prob(y)


def train(
    method: Method,
    x: Tensor,
    y: Tensor,
    num_models: int,
    num_epochs: int = NUM_EPOCHS,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
) -> tuple[nn.Module, Tensor]:
    """Train K models at once, each with its initialization, order of the points and samples.

    Args:
        method: what to train.
        x: ``(N,)``.
        y: ``(N,)``.
        num_models: K.
        num_epochs: passes over the points.
        batch_size: B; the last batch of an epoch may be smaller.
        seed: of torch's generator.

    Returns:
        The models, and their mean loss in each epoch ``(num_epochs, K)``.
    """
    torch.manual_seed(seed)
    models = method.build(num_models)
    optimizer = torch.optim.Adam(models.parameters(), lr=method.learning_rate, fused=True)
    num_steps = num_epochs * math.ceil(len(x) / batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    losses = torch.zeros(num_epochs, num_models)
    for epoch in range(num_epochs):
        order = torch.stack([torch.randperm(len(x)) for _ in range(num_models)])
        for rows in order.split(batch_size, dim=1):
            loss = method.loss(models, x[rows], y[rows]).mean(dim=1)
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
            if method.cosine:
                schedule.step()
            losses[epoch] += loss.detach() * rows.shape[1] / len(x)
    return models, losses

"""The normalizer of exp f near boxes, by adaptive importance sampling.

N boxes; K weighted samples of each; D residuals: 7, or 9 with velocities.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.densities import BoxDistribution, MultivariateGaussianDensity
from ebm3d.devices import check_generator, standard_normal, uniform
from ebm3d.errors import can_read, check_count, check_positive, input_error, shape_error
from ebm3d.noise import BoxNoise
from ebm3d.records import TensorRecord

_NOISE_SHARE = 0.1  # alpha
_WIDENING = 1.2  # gamma
_LEAST_VARIANCE = 1e-4  # of the Gaussian; a hundredth of the noise's width
_DIVERGED = "look at the network's weights for NaN: has its training diverged?"


@dataclass(frozen=True)
class ImportanceSamples(TensorRecord):
    r"""Weighted samples of :math:`p(y) = e^{f(y) / \tau} / Z` around a mode; docs/method.md, M-20.

    .. math::
        \hat Z = \frac1K \sum_k w_k, \quad w_k = \frac{e^{f(y_k) / \tau}}{q(y_k)}, \quad
        y_k \sim q, \qquad \mathrm{ESS} = \frac{(\sum w_k)^2}{\sum w_k^2}

    Attributes:
        coding: residuals around the boxes the samples were drawn around.
        samples: ``(N, K, D)`` boxes.
        f: ``(N, K)`` at the samples.
        log_q: ``(N, K)`` log density of q there, nats, meters, radians and m/s.
        temperature: tau.
    """

    coding: LocalCoding
    samples: Tensor
    f: Tensor
    log_q: Tensor
    temperature: float = 1.0

    @property
    def log_weights(self) -> Tensor:
        """Logarithms of the weights before normalization ``(N, K)``."""
        return self.f / self.temperature - self.log_q

    @property
    def weights(self) -> Tensor:
        """Normalized weights ``(N, K)``."""
        return torch.softmax(self.log_weights, dim=1)

    @property
    def log_normalizer(self) -> Tensor:
        """log Z, ``(N,)``."""
        return torch.logsumexp(self.log_weights, dim=1) - math.log(self.f.shape[1])

    @property
    def effective_sample_size(self) -> Tensor:
        """ESS ``(N,)``, from 1 to K."""
        return 1 / self.weights.square().sum(dim=1)

    @property
    def residuals(self) -> Tensor:
        """Residuals of the samples ``(N, K, D)``."""
        return self.coding.encode(self.samples)

    @property
    def mean_residuals(self) -> Tensor:
        """Weighted mean of the residuals ``(N, D)``."""
        return _moments(self.weights, self.residuals)[0]

    @property
    def residual_covariance(self) -> Tensor:
        """Weighted covariance of the residuals ``(N, D, D)``."""
        return _moments(self.weights, self.residuals)[1]

    def log_prob(self, f: Tensor) -> Tensor:
        """Log density ``(N,)`` of one box near each of the N, nats, from its f ``(N,)``."""
        if getattr(f, "shape", None) != self.f.shape[:1]:
            raise shape_error("f", f"({len(self.f)},), one value per box", f)
        return f / self.temperature - self.log_normalizer

    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw boxes ``(N, num_samples, D)`` from the weighted ones; NaN where weights are NaN."""
        check_count("num_samples", num_samples, least=0)
        check_generator(generator, self.f)
        if len(self.f) == 0 or num_samples == 0:
            return self.samples.new_zeros(len(self.f), num_samples, self.samples.shape[2])
        weights = self.weights
        # On a GPU a weight that is NaN fails an assertion, after which the process cannot use it.
        finite = torch.isfinite(weights).all(dim=1, keepdim=True)
        weights = torch.where(finite, weights, 1.0)
        drawn = torch.multinomial(weights, num_samples, replacement=True, generator=generator)
        boxes = torch.gather(
            self.samples, 1, drawn[..., None].expand(-1, -1, self.samples.shape[2])
        )
        return torch.where(finite[..., None], boxes, math.nan)

    def gaussian(self, yaw_period: float = 2 * math.pi) -> BoxDistribution:
        r"""Return the Gaussian of the weighted mean and a regularized covariance.

        .. math:: \frac{\mathrm{ESS}\, \Sigma + I}{\mathrm{ESS} + 1}

        of the residuals: the moments of few effective samples are too narrow, those of at most
        D not invertible.
        """
        mean, covariance = _moments(self.weights, self.residuals)
        size = self.effective_sample_size[:, None, None]
        unit = torch.eye(mean.shape[1], dtype=size.dtype, device=size.device)
        root = torch.linalg.cholesky_ex((size * covariance + unit) / (size + 1))[0]
        return BoxDistribution(MultivariateGaussianDensity(mean, root), self.coding, yaw_period)

    def tempered(self, temperature: float) -> ImportanceSamples:
        """Return the density of another tau, positive, from the same samples; above 1 widens."""
        check_positive("temperature", temperature)
        return replace(self, temperature=float(temperature))


@torch.no_grad()
def sample_posterior(
    f: Callable[[Tensor], Tensor],
    boxes: Tensor,
    labels: Tensor,
    noise: BoxNoise,
    num_samples: int = 512,
    num_rounds: int = 4,
    generator: torch.Generator | None = None,
) -> ImportanceSamples:
    r"""Normalize exp f around boxes; docs/method.md, M-20.

    The first round draws from the noise, every further one also from a Gaussian of the mean and
    covariance of the round before; only the last is kept:

    .. math:: q_{r+1} = (1 - \alpha)\, \mathcal N(\mu_r, \gamma^2 \Sigma_r) + \alpha\, q_1,
        \qquad \alpha = 0.1, \gamma = 1.2

    As long as few samples carry the weight, the moments are those of :math:`w^\beta`, beta at most
    1 and such that their effective sample size is an eighth of the samples.

    All boxes share the random numbers: the result for a box does not depend on the others of its
    batch, and errors of different boxes are not independent.

    Args:
        f: evaluates S boxes near each of ``boxes``, ``(N, S, D) -> (N, S)``.
        boxes: ``(N, D)``, refined ones: near modes of f.
        labels: ``(N,)``.
        noise: first proposal; as wide as the errors f can tell apart.
        num_samples: K of each round.
        num_rounds: at least 1.
        generator: source of randomness on the device of ``boxes``.

    Returns:
        Weighted samples, in float64.

    Raises:
        ValueError: for no sample or no round; if f returns another shape; in main memory also if it
            is NaN or plus infinity, or minus infinity at all samples of a box (elsewhere the
            posterior of such a box is NaN).
    """
    check_count("num_samples", num_samples)
    check_count("num_rounds", num_rounds)
    wide, noise = boxes.double(), noise.shared()
    coding = LocalCoding(wide, noise.noise_std(wide, labels))
    drawn = noise.sample(wide, labels, num_samples, generator)
    posterior = _weigh(f, coding, drawn.boxes[:, 1:], drawn.log_q[:, 1:], boxes.dtype)
    for _ in range(num_rounds - 1 if len(boxes) else 0):
        gaussian = adapted_gaussian(posterior.log_weights, posterior.residuals)
        drawn = noise.sample(wide, labels, num_samples, generator)
        normal = standard_normal((num_samples, wide.shape[1]), wide, generator)
        shift = torch.einsum("nij,kj->nki", gaussian.scale_tril, normal)
        from_gaussian = gaussian.location[:, None] + shift
        from_noise = coding.encode(drawn.boxes[:, 1:])
        chance = uniform((num_samples, 1), boxes.new_empty((), dtype=torch.float32), generator)
        residuals = torch.where(chance < _NOISE_SHARE, from_noise, from_gaussian)
        samples = coding.decode(residuals)
        log_gaussian = gaussian.log_prob(residuals) - coding.log_volume(samples)
        log_q = torch.logaddexp(
            math.log1p(-_NOISE_SHARE) + log_gaussian,
            math.log(_NOISE_SHARE) + noise.log_prob(wide, samples, labels),
        )
        posterior = _weigh(f, coding, samples, log_q, boxes.dtype)
    return posterior


def adapted_gaussian(log_w: Tensor, residuals: Tensor) -> MultivariateGaussianDensity:
    """Return the N Gaussians that the next round draws from, of the moments of flattened weights.

    Args:
        log_w: ``(N, K)`` logarithms of the weights, up to a constant for each box.
        residuals: ``(N, K, D)`` of the samples.
    """
    beta = flattening(log_w, max(log_w.shape[1] / 8, 1.0))
    # A weight of zero stays zero: beta may be 0, and 0 times minus infinity is NaN.
    weights = torch.softmax(torch.where(log_w == -math.inf, log_w, beta * log_w), dim=1)
    mean, covariance = _moments(weights, residuals)
    unit = torch.eye(residuals.shape[2], dtype=covariance.dtype, device=covariance.device)
    root = torch.linalg.cholesky_ex(_WIDENING**2 * covariance + _LEAST_VARIANCE * unit)[0]
    return MultivariateGaussianDensity(mean, root)


def flattening(log_w: Tensor, size: float) -> Tensor:
    """Return the largest power below one that leaves weights an effective size.

    The effective size falls as the power grows: each of five rounds evaluates fifteen powers and
    keeps the sixteenth of the interval in which it crosses ``size``, from 1 to K.

    Returns:
        ``(N, 1)`` in [0, 1), a multiple of 2^-20.
    """
    # At minus infinity, the product with a power of zero would be NaN.
    lowest = torch.finfo(log_w.dtype).min
    logs = (log_w - log_w.amax(dim=1, keepdim=True)).clamp_min(lowest)[:, None]
    beta = torch.zeros_like(log_w[:, :1])
    steps = torch.arange(1, 16, dtype=log_w.dtype, device=log_w.device)
    for part in (16.0**-level for level in range(1, 6)):
        weights = torch.exp((beta + part * steps)[..., None] * logs)
        sizes = weights.sum(dim=2).square() / weights.square().sum(dim=2)
        beta = beta + part * (sizes >= size).sum(dim=1, keepdim=True)
    return beta


def _moments(weights: Tensor, residuals: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``(N, D)`` and covariance ``(N, D, D)`` of ``(N, K, D)`` with weights ``(N, K)``."""
    mean = (weights[..., None] * residuals).sum(dim=1)
    offset = residuals - mean[:, None]
    return mean, torch.einsum("nk,nki,nkj->nij", weights, offset, offset)


def _weigh(
    f: Callable[[Tensor], Tensor],
    coding: LocalCoding,
    samples: Tensor,
    log_q: Tensor,
    dtype: torch.dtype,
) -> ImportanceSamples:
    """Evaluate f, in ``dtype``, at samples ``(N, K, D)``."""
    values = f(samples.to(dtype))
    if getattr(values, "shape", None) != samples.shape[:2]:
        raise shape_error("f(boxes)", f"{tuple(samples.shape[:2])}, one value per box", values)
    values = values.to(samples)
    good = (values < math.inf).all(dim=1) & (values > -math.inf).any(dim=1)
    if can_read(good) and not bool(good.all()):
        row = int((~good).nonzero()[0, 0])
        expected = "below infinity at every sample of a box, and finite at one"
        raise input_error("f", expected, f"f[{row}] = {values[row].tolist()[:8]}", _DIVERGED)
    return ImportanceSamples(coding, samples, values, log_q)

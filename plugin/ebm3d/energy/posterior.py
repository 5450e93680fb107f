"""The density exp(f) / Z near boxes, by adaptive importance sampling.

N boxes; K samples of each; D = 7 residuals.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ebm3d.boxes.codings import LocalCoding
from ebm3d.boxes.random_numbers import check_generator, standard_normal, uniform
from ebm3d.densities import BoxDistribution, MultivariateGaussianDensity
from ebm3d.energy.flattened_gaussian import flattened_gaussian
from ebm3d.errors import can_read, check_count, check_positive, input_error, shape_error
from ebm3d.noise import BoxNoise
from ebm3d.records import TensorRecord

_DIVERGED = "look at the network's weights for NaN: has its training diverged?"
_DEFENSE = 0.1  # share of samples that are drawn from the noise in every round


@dataclass(frozen=True)
class ImportanceSamples(TensorRecord):
    r"""Weighted samples of :math:`p(y) = e^{f(y) / \tau} / Z`, and Z.

    .. math::
        \hat Z = \frac1K \sum_k \frac{e^{f(y_k) / \tau}}{q(y_k)}, \quad y_k \sim q, \qquad
        w_k \propto \frac{e^{f(y_k) / \tau}}{q(y_k)}, \qquad
        \mathrm{ESS} = \frac{(\sum w_k)^2}{\sum w_k^2}

    Source: docs/method.md, M-20. Z is that of the mode the samples lie around; what f says of
    boxes far away does not enter.

    Attributes:
        coding: residuals around the boxes the samples were drawn around.
        samples: ``(N, K, 7)`` boxes.
        f: ``(N, K)`` at the samples.
        log_q: ``(N, K)`` log density of the proposal there, nats, meters and radians.
        temperature: tau.
    """

    coding: LocalCoding
    samples: Tensor
    f: Tensor
    log_q: Tensor
    temperature: float = 1.0

    @property
    def log_normalizer(self) -> Tensor:
        """log Z, ``(N,)``."""
        return torch.logsumexp(self._log_ratios, dim=1) - math.log(self.f.shape[1])

    @property
    def weights(self) -> Tensor:
        """Normalized weights ``(N, K)``."""
        return torch.softmax(self._log_ratios, dim=1)

    @property
    def effective_sample_size(self) -> Tensor:
        """ESS ``(N,)``, from 1 to K."""
        return 1 / self.weights.square().sum(dim=1)

    @property
    def mean_residuals(self) -> Tensor:
        """Weighted mean of the residuals ``(N, 7)``."""
        return (self.weights[..., None] * self.residuals).sum(dim=1)

    @property
    def residual_covariance(self) -> Tensor:
        """Weighted covariance of the residuals ``(N, 7, 7)``."""
        offset = self.residuals - self.mean_residuals[:, None]
        return torch.einsum("nk,nki,nkj->nij", self.weights, offset, offset)

    @property
    def boxes(self) -> Tensor:
        """Importance-weighted means ``(N, 7)``."""
        return self.coding.decode(self.mean_residuals)

    @property
    def covariance(self) -> Tensor:
        """Covariance of the boxes ``(N, 7, 7)``, meters and radians, to first order."""
        jacobian = self.coding.jacobian(self.mean_residuals)
        return jacobian @ self.residual_covariance @ jacobian.transpose(-1, -2)

    @property
    def std(self) -> Tensor:
        """Standard deviation of each dimension of the boxes ``(N, 7)``."""
        return torch.diagonal(self.covariance, dim1=-2, dim2=-1).clamp_min(0).sqrt()

    @property
    def entropy(self) -> Tensor:
        """Entropy ``(N,)``, nats, by the same weights."""
        log_p = self.f / self.temperature - self.log_normalizer[:, None]
        return -(self.weights * log_p).sum(dim=1)

    def log_prob(self, f: Tensor) -> Tensor:
        """Log density of boxes from their f.

        Args:
            f: ``(N,)`` at one box near each of the N.

        Returns:
            ``(N,)`` nats, meters and radians.
        """
        if getattr(f, "shape", None) != self.f.shape[:1]:
            raise shape_error("f", f"({len(self.f)},), one value per box", f)
        return f / self.temperature - self.log_normalizer

    def cdf(self, boxes: Tensor) -> Tensor:
        """Marginal distribution functions of the residuals.

        Args:
            boxes: ``(N, 7)``.

        Returns:
            ``(N, 7)`` in [0, 1].
        """
        below = self.residuals <= self.coding.encode(boxes)[:, None]
        return (self.weights[..., None] * below).sum(dim=1).clamp(0, 1)

    def squared_mahalanobis(self, boxes: Tensor) -> Tensor:
        """Squared distance of boxes from the weighted mean in the weighted covariance.

        Args:
            boxes: ``(N, 7)``.

        Returns:
            ``(N,)``; NaN where so few samples carry weight that the covariance has no inverse.
        """
        factor, failed = torch.linalg.cholesky_ex(self.residual_covariance)
        offset = self.coding.encode(boxes) - self.mean_residuals
        white = torch.linalg.solve_triangular(factor, offset[..., None], upper=False)
        squared = white[..., 0].square().sum(-1)
        return torch.where(failed == 0, squared, torch.full_like(squared, float("nan")))

    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw boxes ``(N, num_samples, 7)`` from the weighted ones; NaN where weights are NaN."""
        check_count("num_samples", num_samples, least=0)
        check_generator(generator, self.f)
        if len(self.f) == 0 or num_samples == 0:
            return self.samples.new_zeros(len(self.f), num_samples, 7)
        weights = self.weights
        # A weight that is NaN would be an assertion on a GPU, which ends the process's use of it.
        known = torch.isfinite(weights).all(dim=1, keepdim=True)
        weights = torch.where(known, weights, 1.0)
        drawn = torch.multinomial(weights, num_samples, replacement=True, generator=generator)
        chosen = torch.gather(self.samples, 1, drawn[..., None].expand(-1, -1, 7))
        return torch.where(known[..., None], chosen, math.nan)

    def gaussian(self, yaw_period: float = 2 * math.pi) -> BoxDistribution:
        r"""Return the Gaussian of the weighted mean and a covariance that few samples widen.

        .. math:: \frac{\mathrm{ESS}\, \Sigma + I}{\mathrm{ESS} + 1}

        of the residuals: the units squared (in units, I) count as one more sample's covariance. The
        moments of few effective samples are too narrow, those of fewer than eight not even
        invertible. The noise itself is wider than its units where its components are.

        Args:
            yaw_period: see :class:`ebm3d.densities.BoxDistribution`.
        """
        size = self.effective_sample_size[:, None, None]
        unit = torch.eye(7, dtype=size.dtype, device=size.device)
        covariance = (size * self.residual_covariance + unit) / (size + 1)
        root = torch.linalg.cholesky_ex(covariance)[0]
        return BoxDistribution(
            MultivariateGaussianDensity(self.mean_residuals, root), self.coding, yaw_period
        )

    def tempered(self, temperature: float) -> ImportanceSamples:
        """Return the density of another tau, from the same samples.

        Args:
            temperature: tau, positive; above 1 widens.

        Raises:
            ValueError: if it is not positive and finite.
        """
        check_positive("temperature", temperature)
        return replace(self, temperature=float(temperature))

    @property
    def _log_ratios(self) -> Tensor:
        """Logarithms of the weights before normalization, ``(N, K)``."""
        return self.f / self.temperature - self.log_q

    @property
    def residuals(self) -> Tensor:
        """Residuals of the samples ``(N, K, 7)``."""
        return self.coding.encode(self.samples)


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
    r"""Normalize exp(f) around boxes.

    Of the samples of one Gaussian, a Gaussian density half as wide in each of seven dimensions
    leaves an effective 6 %, one a third as wide 0.4 %. So the proposal is adapted: the
    first round draws from the noise; every further one from a Gaussian, with the mean and
    covariance of the round before, and in part from the noise,

    .. math:: q_{r+1} = (1 - \alpha)\, \mathcal N(\mu_r, \gamma^2 \Sigma_r) + \alpha\, q_1

    with :math:`\alpha = 0.1, \gamma = 1.2`. As long as few samples carry the weight, the moments
    are those of the flattened weights :math:`w^\beta`, beta at most 1 and such that their
    effective sample size is an eighth of the samples. Only the last round is kept: its weights are
    those of exact importance sampling from a known density. docs/method.md, M-20.

    The random numbers of a round are the same for all boxes: what is said of a box does not depend
    on the others of its batch. Errors of different boxes are therefore not independent.

    Args:
        f: evaluates S boxes near each of ``boxes``, ``(N, S, 7) -> (N, S)``.
        boxes: ``(N, 7)``, refined ones: near the modes of f.
        labels: ``(N,)``.
        noise: first proposal; as wide as the errors f is to tell apart.
        num_samples: K of each round.
        num_rounds: at least 1; 1 draws from the noise alone.
        generator: source of randomness on the device of ``boxes``.

    Returns:
        Weighted samples, in float64.

    Raises:
        ValueError: for no sample or no round; if f gives another shape; in main memory also if it
            gives NaN or plus infinity, or minus infinity at all samples of a box. Elsewhere looking
            would wait for the device, and the posterior of such a box is NaN.
    """
    check_count("num_samples", num_samples)
    check_count("num_rounds", num_rounds)
    wide = boxes.double()
    coding = LocalCoding(wide, noise.noise_std(wide, labels))
    noise = noise.shared()
    drawn = noise.sample(wide, labels, num_samples, generator)
    posterior = _weigh(f, coding, drawn.boxes[:, 1:], drawn.log_q[:, 1:], boxes.dtype)
    for _ in range(num_rounds - 1 if len(boxes) else 0):
        proposal = flattened_gaussian(posterior.f - posterior.log_q, posterior.residuals)
        drawn = noise.sample(wide, labels, num_samples, generator)
        normal = standard_normal((num_samples, 7), wide, generator)
        shift = torch.einsum("nij,kj->nki", proposal.scale_tril, normal)
        from_gaussian = proposal.location[:, None] + shift
        from_noise = coding.encode(drawn.boxes[:, 1:])
        chance = uniform((num_samples, 1), boxes.new_empty((), dtype=torch.float32), generator)
        residuals = torch.where(chance < _DEFENSE, from_noise, from_gaussian)
        samples = coding.decode(residuals)
        gaussian = proposal.log_prob(residuals) - coding.log_volume(samples)
        log_q = torch.logaddexp(
            math.log1p(-_DEFENSE) + gaussian,
            math.log(_DEFENSE) + noise.log_prob(wide, samples, labels),
        )
        posterior = _weigh(f, coding, samples, log_q, boxes.dtype)
    return posterior


def _weigh(
    f: Callable[[Tensor], Tensor],
    coding: LocalCoding,
    samples: Tensor,
    log_q: Tensor,
    dtype: torch.dtype,
) -> ImportanceSamples:
    """Evaluate f, in its own dtype, at samples ``(N, K, 7)``."""
    given = f(samples.to(dtype))
    if getattr(given, "shape", None) != samples.shape[:2]:
        raise shape_error("f(boxes)", f"{tuple(samples.shape[:2])}, one value per box", given)
    values = given.to(samples)
    good = (values < math.inf).all(dim=1) & (values > -math.inf).any(dim=1)
    if can_read(good) and not bool(good.all()):
        row = int((~good).nonzero()[0, 0])
        expected = "below infinity at every sample of a box, and finite at one"
        raise input_error("f", expected, f"f[{row}] = {values[row].tolist()[:8]}", _DIVERGED)
    return ImportanceSamples(coding, samples, values, log_q)

"""The density whose negative logarithm is the smooth L1 loss."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.densities.density import Density, check_parameters, check_residuals
from ebm3d.devices import uniform
from ebm3d.errors import input_error


@dataclass(frozen=True)
class HuberDensity(Density):
    r"""Independent densities of the smooth L1 loss: Gaussian in the middle, Laplace beyond.

    .. math::
        p(t) = \prod_d \frac{1}{s_d\, \zeta(\beta / s_d)}
        \exp\left(-\frac{\mathrm{smoothL1}(t_d - \mu_d;\, \beta)}{s_d}\right), \quad
        \zeta(q) = \sqrt{2\pi q}\;\mathrm{erf}\sqrt{q / 2} + 2 e^{-q/2}

    with smoothL1(r) = r^2 / (2 beta) for |r| < beta and |r| - beta / 2 beyond. The density a
    detector trained with the stock loss stands for, once a scale s is known. Its limits are the
    Laplace density for beta to 0 and a Gaussian of variance beta s for large beta / s.
    docs/method.md, M-9.

    Attributes:
        location: centers of symmetry, ``(N, D)``.
        log_scale: log s, ``(N, D)``.
        beta: where the parabola ends, positive, in the units of the residuals.

    Raises:
        ValueError: if the shapes differ or beta is not positive.
    """

    location: Tensor
    log_scale: Tensor
    beta: float

    def __post_init__(self) -> None:
        check_parameters("(N, D)", location=self.location, log_scale=self.log_scale)
        if not 0 < self.beta < math.inf:
            raise input_error(
                "beta", "positive and finite", self.beta, "take LaplaceDensity for the limit 0"
            )

    @property
    def point(self) -> Tensor:
        """The mean, which is the mode and the median, ``(N, D)``."""
        return self.location

    @property
    def mean(self) -> Tensor:
        """``(N, D)``."""
        return self.location

    @property
    def variance(self) -> Tensor:
        r"""``(N, D)``: :math:`s^2 (q\, c + 4 (q + 1) e^{-q/2}) / \zeta`, c as in zeta's first term.

        The two ends are 2 s^2 and beta s.
        """
        ratio, core, edge = self._parts()
        second_moment = ratio * core + 4 * (ratio + 1) * edge
        return torch.exp(2 * self.log_scale) * second_moment / (core + 2 * edge)

    def log_prob(self, residuals: Tensor) -> Tensor:
        """Log density; see :meth:`Density.log_prob`."""
        check_residuals(residuals, self.location)
        _, core, edge = self._parts()
        distance = (residuals - self.location).abs()
        inner = distance.clamp_max(self.beta)
        loss = inner.square() / (2 * self.beta) + (distance - inner)
        log_norm = self.log_scale + torch.log(core + 2 * edge)
        return -(loss * torch.exp(-self.log_scale) + log_norm).sum(-1)

    def cdf(self, residuals: Tensor) -> Tensor:
        """Marginal distribution functions; see :meth:`Density.cdf`."""
        check_residuals(residuals, self.location)
        ratio, core, edge = self._parts()
        offset = residuals - self.location
        distance = offset.abs()
        inner = distance.clamp_max(self.beta) * torch.exp(-self.log_scale / 2)
        half = math.sqrt(math.pi / 2) * torch.sqrt(ratio)
        # Mass between the distance and beta, then beyond both.
        middle = half * (
            torch.erfc(inner / math.sqrt(2 * self.beta)) - torch.erfc(torch.sqrt(ratio / 2))
        )
        outer = (distance - self.beta).clamp_min(0) * torch.exp(-self.log_scale)
        beyond = (middle + edge * torch.exp(-outer)) / (core + 2 * edge)
        return torch.where(offset < 0, beyond, 1 - beyond)

    @torch.no_grad()
    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw from the truncated Gaussian or the tails; see :meth:`Density.sample`."""
        ratio, core, edge = self._parts()
        chances = uniform((3, num_samples, *self.location.shape), ratio, generator)
        # Rounded to one, the largest of them would be infinitely far away.
        eps = torch.finfo(chances.dtype).eps
        level = (2 * chances[0] - 1).clamp(-1 + eps, 1 - eps)
        middle = torch.erfinv(level * torch.erf(torch.sqrt(ratio / 2)))
        middle = middle * math.sqrt(2 * self.beta) * torch.exp(self.log_scale / 2)
        tail = self.beta - torch.exp(self.log_scale) * torch.log1p(-chances[1])
        in_middle = chances[2] * (core + 2 * edge) < core
        return self.location + torch.where(in_middle, middle, torch.sign(level) * tail)

    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """q = beta / s, and of zeta(q): the mass of the parabola and that of one tail."""
        root = math.sqrt(self.beta) * torch.exp(-self.log_scale / 2)
        ratio = root.square()
        core = math.sqrt(2 * math.pi) * root * torch.erf(root / math.sqrt(2))
        return ratio, core, torch.exp(-ratio / 2)

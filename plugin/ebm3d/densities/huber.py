"""The density whose negative logarithm is the smooth L1 loss."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ebm3d.densities.density import SymmetricDensity
from ebm3d.devices import uniform
from ebm3d.errors import check_positive


@dataclass(frozen=True)
class HuberDensity(SymmetricDensity):
    r"""Independent densities of the smooth L1 loss: Gaussian in the middle, Laplace beyond.

    .. math::
        p(t) = \prod_d \frac{1}{s_d\, \zeta(\beta / s_d)}
        \exp\left(-\frac{\mathrm{smoothL1}(t_d - \mu_d;\, \beta)}{s_d}\right), \quad
        \zeta(q) = \sqrt{2\pi q}\;\mathrm{erf}\sqrt{q / 2} + 2 e^{-q/2}

    with centers and log s ``(N, D)``, and beta in the units of the residuals. It tends to the
    Laplace density as beta vanishes, and to a Gaussian of variance beta s as beta / s grows.
    docs/method.md, M-9.
    """

    log_scale: Tensor
    beta: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("beta", self.beta)

    @property
    def variance(self) -> Tensor:
        r"""``(N, D)``: :math:`s^2 (q\, c + 4 (q + 1) e^{-q/2}) / \zeta`, c zeta's first term."""
        ratio, core, edge = self._parts()
        second_moment = ratio * core + 4 * (ratio + 1) * edge
        return torch.exp(2 * self.log_scale) * second_moment / (core + 2 * edge)

    def _log_prob(self, residuals: Tensor) -> Tensor:
        _, core, edge = self._parts()
        distance = (residuals - self.location[:, None]).abs()
        inner = distance.clamp_max(self.beta)
        loss = inner.square() / (2 * self.beta) + (distance - inner)
        log_norm = self.log_scale + torch.log(core + 2 * edge)
        return -(loss * torch.exp(-self.log_scale)[:, None] + log_norm[:, None]).sum(-1)

    def _cdf(self, residuals: Tensor) -> Tensor:
        ratio, core, edge = (part[:, None] for part in self._parts())
        log_scale = self.log_scale[:, None]
        offset = residuals - self.location[:, None]
        distance = offset.abs()
        inner = distance.clamp_max(self.beta) * torch.exp(-log_scale / 2)
        half = math.sqrt(math.pi / 2) * torch.sqrt(ratio)
        # Mass between the distance and beta, then beyond both.
        inner = inner / math.sqrt(2 * self.beta)
        middle = half * (torch.erfc(inner) - torch.erfc(torch.sqrt(ratio / 2)))
        outer = (distance - self.beta).clamp_min(0) * torch.exp(-log_scale)
        beyond = (middle + edge * torch.exp(-outer)) / (core + 2 * edge)
        return torch.where(offset < 0, beyond, 1 - beyond)

    def _sample(self, num_samples: int, generator: torch.Generator | None) -> Tensor:
        # From the truncated Gaussian or a tail.
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

"""Loss of a proposal that learns the density of an energy."""

from __future__ import annotations

from torch import Tensor

from ebm3d.losses.importance_sampling import log_normalizer


def proposal_loss(f: Tensor, log_q: Tensor) -> Tensor:
    r"""Divergence of exp f from the proposal, by samples of the proposal, without log Z.

    .. math:: L(\phi) = \log\frac1M\sum_{m=1}^{M}
        \frac{e^{f(\tilde y_m)}}{q_\phi(\tilde y_m)}, \quad \tilde y_m \sim q_\phi

    with samples and f held fixed. Source: Gustafsson et al., "Learning Proposals for Practical
    Energy-Based Regression", AISTATS 2022. docs/method.md, M-26. Its gradient estimates that of
    :math:`\mathrm{KL}(e^f / Z \,\|\, q_\phi)` by self-normalized importance sampling.

    Args:
        f: ``(..., M)`` f of samples of the proposal; no gradient flows into it.
        log_q: ``(..., M)`` their log densities under the proposal, nats, with a graph to phi.
    """
    return log_normalizer(f.detach(), log_q)

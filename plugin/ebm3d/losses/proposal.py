"""Loss of a proposal that learns the density of an energy."""

from __future__ import annotations

from torch import Tensor

from ebm3d.losses.importance_sampling import log_normalizer


def proposal_loss(f: Tensor, log_q: Tensor) -> Tensor:
    r"""Divergence of the proposal from exp f, by samples of the proposal, but for log Z.

    .. math:: L(\phi) = \log\frac1M\sum_{m=1}^{M}
        \frac{e^{f(\tilde y_m)}}{q_\phi(\tilde y_m)}, \quad \tilde y_m \sim q_\phi

    with samples and f held fixed. Source: Gustafsson et al., "Learning Proposals for Practical
    Energy-Based Regression", AISTATS 2022. docs/method.md, M-26. Its gradient is that of the cross
    entropy :math:`-\sum_m w_m \log q_\phi(\tilde y_m)` under the normalized weights of importance
    sampling, an estimate of the gradient of :math:`\mathrm{KL}(e^f / Z \,\|\, q_\phi)`, which
    vanishes at q = exp f / Z.

    Args:
        f: ``(..., M)`` f of samples of the proposal; no gradient flows into it.
        log_q: ``(..., M)`` their log densities under the proposal, nats, with a graph to phi.

    Returns:
        ``(...)`` nats; no reduction. The value is that of
        :func:`ebm3d.losses.importance_sampling.log_normalizer`.

    Raises:
        ValueError: if the shapes differ or there is no sample.
    """
    return log_normalizer(f.detach(), log_q)

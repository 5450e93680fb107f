"""The laws of the learned proposal: its density, its loss, what it recovers."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from ebm3d.boxes.codings import LocalCoding
from ebm3d.energy import BoundProposal, LearnedProposal
from ebm3d.energy.bound_proposal import energy_cross_entropy
from ebm3d.losses import proposal_loss
from ebm3d.noise import BoundNoise, BoxNoise

_STDS = (0.25, 0.12, 0.08, 0.06, 0.05, 0.07, 0.04)
_SIZES = [[3.9, 1.6, 1.56], [0.8, 0.6, 1.73]]
_CHANNELS = 7


class _Features:
    """The same features wherever they are read."""

    def __init__(self, count: int) -> None:
        self.values = torch.randn(count, _CHANNELS, dtype=torch.float64, requires_grad=True)

    def pooled(self, boxes: Tensor) -> Tensor:
        return self.values[:, None].expand(-1, boxes.shape[1], -1)


_MOVING = BoxNoise((*_STDS, 0.9, 0.3))


def _boxes(count: int) -> Tensor:
    low = torch.tensor([5.0, -10, -2, 3, 1.4, 1.2, -3], dtype=torch.float64)
    spread = torch.tensor([20.0, 20, 1, 2, 1, 1, 6], dtype=torch.float64)
    return low + spread * torch.rand(count, 7, dtype=torch.float64)


def _proposal(spread: float | None = None, **options: Any) -> LearnedProposal:
    """With a spread, outputs differ from box to box."""
    torch.manual_seed(2)
    arguments = {"num_components": 3, "hidden_channels": (16,), **options}
    proposal = LearnedProposal(_CHANNELS, _SIZES, BoxNoise(_STDS), **arguments).double()
    if spread is not None:
        torch.nn.init.normal_(proposal.network.layers[-1].weight, std=spread)  # type: ignore[arg-type]
    return proposal


def _noise(count: int, **options: Any) -> BoundNoise:
    return BoxNoise(_STDS).around(_boxes(count), torch.arange(count) % 2, **options)


def _bound(proposal: LearnedProposal, count: int = 4) -> BoundProposal:
    generator = torch.Generator().manual_seed(0)
    features: Any = _Features(count)
    return proposal.around(_noise(count, generator=generator), features)


def _moving(count: int, **options: Any) -> BoundProposal:
    """A proposal around boxes with velocities."""
    boxes = torch.cat((_boxes(count), 8 * torch.randn(count, 2, dtype=torch.float64)), dim=1)
    proposal = LearnedProposal(_CHANNELS, _SIZES, _MOVING, 3, (16,), **options).double()
    torch.nn.init.normal_(proposal.network.layers[-1].weight, std=0.1)  # type: ignore[arg-type]
    features: Any = _Features(count)
    return proposal.around(_MOVING.around(boxes, torch.arange(count) % 2), features)


@pytest.mark.parametrize("share", [0.0, 0.25])
@pytest.mark.parametrize("columns", [7, 9])
def test_samples_fit_the_density(share: float, columns: int):
    # The mean of g / q over samples of q is the integral of g, one for a density.
    if columns == 7:
        bound = _bound(_proposal(0.1, base_share=share))
    else:
        bound = _moving(4, base_share=share)
    count, std = 20_000, 0.5
    samples = bound.sample(count)
    mean, coding = bound.distribution.density.mean.detach(), bound.distribution.coding
    at = samples.boxes[:, 1:]
    log_g = Normal(mean[:, None], std).log_prob(coding.encode(at)).sum(-1) - coding.log_volume(at)
    ratio = torch.exp(log_g - samples.log_q[:, 1:])
    error = ratio.std(dim=1) / math.sqrt(count)
    assert float(error.max()) < 0.1
    assert bool(((ratio.mean(dim=1) - 1).abs() <= 5 * error).all())


def test_density_is_the_mixture_of_the_learned_and_the_base():
    bound = _bound(_proposal(0.3, base_share=0.3))
    samples = bound.sample(9)
    learned = bound.distribution.log_prob(samples.boxes)
    base = BoxNoise(_STDS).log_prob(bound.boxes, samples.boxes, bound.labels)
    expected = torch.log(0.7 * learned.exp() + 0.3 * base.exp()).detach()
    torch.testing.assert_close(samples.log_q, expected)
    torch.testing.assert_close(bound.log_prob(samples.boxes), expected)
    torch.testing.assert_close(samples.boxes[:, 0], bound.boxes)


@pytest.mark.parametrize(("axes", "sizes"), [("box", "log"), ("world", "metric")])
def test_true_box_enters_the_learned_part_by_the_reference_alone(axes: str, sizes: str):
    proposal, base = _proposal(0.3), BoxNoise(_STDS, axes=axes, sizes=sizes)
    features: Any = _Features(4)
    noise = base.around(_boxes(4), torch.arange(4) % 2)
    other = base.around(_boxes(4), noise.labels, reference=noise.reference)
    first, second = (proposal.predict(bound, features) for bound in (noise, other))
    assert torch.equal(first.coding.reference, noise.reference)
    torch.testing.assert_close(first.boxes, second.boxes)
    torch.testing.assert_close(first.covariance, second.covariance)


def test_samples_and_densities_carry_no_graph_and_the_features_no_gradient():
    proposal, features = _proposal(0.3), _Features(4)
    bound = proposal.around(_noise(4), features)  # type: ignore[arg-type]
    samples = bound.sample(5)
    for value in (samples.boxes, samples.log_q, bound.log_prob(samples.boxes)):
        assert not value.requires_grad
    f = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    bound.loss(samples, f).sum().backward()
    assert f.grad is None
    assert features.values.grad is None
    assert all(p.grad is not None for p in proposal.parameters())


def test_gradient_of_the_published_setting_is_that_of_the_published_loss():
    proposal = _proposal(0.3, base_share=0.0, nll_weight=0.0)
    bound = _bound(proposal)
    samples = bound.sample(12)
    f = torch.randn(4, 13, dtype=torch.float64)
    log_q = bound.distribution.log_prob(samples.boxes[:, 1:])
    losses = proposal_loss(f[:, 1:], log_q).sum(), bound.loss(samples, f).sum()
    published, gradient = (
        torch.autograd.grad(loss, list(proposal.parameters()), retain_graph=True) for loss in losses
    )
    torch.testing.assert_close(gradient, published)


def test_cross_entropy_has_the_weights_of_importance_sampling_and_only_the_learned_part_a_graph():
    f, log_q, learned = (
        torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True) for _ in range(3)
    )
    loss = energy_cross_entropy(f, log_q, learned)
    for row in itertools.product(range(2), range(3)):
        values = (part.detach()[row].tolist() for part in (f, log_q, learned))
        drawn = list(zip(*values, strict=True))
        weights = [math.exp(value - q) for value, q, _ in drawn]
        terms = [w * p for w, (_, _, p) in zip(weights, drawn, strict=True)]
        assert float(loss.detach()[row]) == pytest.approx(-sum(terms) / sum(weights), rel=1e-12)
    loss.sum().backward()
    assert f.grad is None
    assert log_q.grad is None
    torch.testing.assert_close(learned.grad, -torch.softmax(f - log_q, dim=-1).detach())


def test_loss_is_the_cross_entropy_with_the_energy_and_that_of_the_true_box():
    bound = _bound(_proposal(0.3, base_share=0.4, nll_weight=0.7))
    samples = bound.sample(8)
    f = torch.randn(4, 9, dtype=torch.float64)
    log_q = bound.distribution.log_prob(samples.boxes)
    true_box = -0.7 * bound.distribution.log_prob(bound.boxes)
    drawn = energy_cross_entropy(f[:, 1:], samples.log_q[:, 1:], log_q[:, 1:])
    torch.testing.assert_close(bound.loss(samples, f), drawn + true_box)
    torch.testing.assert_close(bound.loss(None, None), true_box)


def _train(by_energy: bool, **options: float) -> tuple[Tensor, Tensor]:
    """Mean error and relative error of the deviations, in standard deviations of the target.

    The energy is the log density of a Gaussian of the residuals around the references, whose mean
    is the features (times a half) and whose deviations differ from dimension to dimension.
    """
    proposal = _proposal(num_components=2, hidden_channels=(32,), **options)
    torch.manual_seed(0)
    count, steps = 48, 150
    std = torch.linspace(0.3, 0.9, 7, dtype=torch.float64)
    optimizer = torch.optim.Adam(proposal.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    features: Any = _Features(count)
    labels, references = torch.zeros(count, dtype=torch.int64), _boxes(count)
    coding = LocalCoding(references, BoxNoise(_STDS).noise_std(references, labels))
    target = Normal(0.5 * features.values.detach()[:, None], std.expand(count, 1, 7))
    for _ in range(steps):
        true = coding.decode(target.sample())[:, 0]
        noise = BoxNoise(_STDS).around(true, labels, reference=references)
        bound = proposal.around(noise, features)
        samples, f = None, None
        if by_energy:
            samples = bound.sample(32)
            log_p = target.log_prob(coding.encode(samples.boxes)).sum(-1)
            f = log_p - coding.log_volume(samples.boxes) + 5.0
        optimizer.zero_grad()
        bound.loss(samples, f).mean().backward()
        optimizer.step()
        schedule.step()
    density = bound.distribution.density
    error = (density.mean - target.mean[:, 0]) / std
    return error.detach(), (density.variance.sqrt() / std - 1).detach()


@pytest.mark.parametrize(
    ("by_energy", "options", "tolerance"),
    [
        (True, {"nll_weight": 0.0}, 0.1),
        (True, {"nll_weight": 0.0, "base_share": 0.0}, 0.1),
        (False, {}, 0.2),
    ],
)
def test_proposal_recovers_the_density_of_the_energy_or_of_the_true_boxes(
    by_energy: bool, options: dict[str, float], tolerance: float
):
    error, excess = _train(by_energy, **options)
    assert float(error.square().mean().sqrt()) < tolerance
    assert float(excess.abs().mean()) < tolerance / 2


def test_new_proposal_is_about_as_wide_as_the_base_noise():
    density = _bound(_proposal(num_components=5)).distribution.density.detach()
    stds = density.variance.sqrt()
    assert bool(((stds > 0.9) & (stds < 1.5)).all())
    assert float(density.mean.abs().max()) < 0.2


def test_deviations_and_means_stay_in_their_bounds():
    # Outputs this large reach the bounds.
    bound = _bound(_proposal(1e3, std_range=(0.1, 2.0), max_mean=3.0))
    density: Any = bound.distribution.density.detach()
    stds = torch.exp(density.log_variances / 2)
    assert float(stds.min()) == pytest.approx(0.1)
    assert float(stds.max()) == pytest.approx(2.0)
    assert float(density.means.abs().max()) == pytest.approx(3.0)


def test_what_is_not_drawn_is_that_of_the_base_noise():
    bound = _bound(_proposal())
    scaled = bound.scale_std(0.2)
    torch.testing.assert_close(scaled.boxes, bound.boxes)
    torch.testing.assert_close(scaled.noise_std, 0.2 * bound.noise_std)
    expected = BoxNoise(_STDS).noise_std(bound.reference, bound.labels)
    torch.testing.assert_close(bound.reference_noise_std, expected)


def test_no_boxes_have_no_samples_and_no_loss():
    bound = _bound(_proposal(), 0)
    samples = bound.sample(3)
    assert samples.boxes.shape == (0, 4, 7)
    assert bound.loss(samples, torch.zeros(0, 4, dtype=torch.float64)).shape == (0,)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_components", 0),
        ("base_share", 1.0),
        ("nll_weight", -1.0),
        ("std_range", (1.0, 0.5)),
        ("max_mean", 0.0),
    ],
)
def test_numbers_out_of_range_are_refused(name: str, value: Any):
    with pytest.raises(ValueError, match=f"{name} must be"):
        _proposal(**{name: value})


def test_base_that_is_no_box_noise_is_refused():
    with pytest.raises(ValueError, match="base must be a BoxNoise"):
        LearnedProposal(_CHANNELS, _SIZES, _proposal())  # type: ignore[arg-type]


def test_loss_without_a_training_signal_or_of_other_samples_is_refused():
    with pytest.raises(ValueError, match="nll_weight must be positive"):
        _bound(_proposal(nll_weight=0.0)).loss(None, None)
    bound = _bound(_proposal())
    with pytest.raises(ValueError, match="log_q must have shape"):
        bound.loss(bound.sample(3), torch.zeros(4, 3, dtype=torch.float64))

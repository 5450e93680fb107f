"""The laws of the learned proposal: its density, its two teachers, what it recovers."""

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
from ebm3d.energy.learned_proposal import energy_cross_entropy
from ebm3d.losses import proposal_loss
from ebm3d.noise import BoundNoise, BoxNoise, DetectionNoise, Detections, NoiseSamples

_STDS = (0.25, 0.12, 0.08, 0.06, 0.05, 0.07, 0.04)
_SIZES = [[3.9, 1.6, 1.56], [0.8, 0.6, 1.73]]
_CHANNELS = 7


class _Features:
    """The same features wherever they are read."""

    def __init__(self, values: Tensor) -> None:
        self.values = values.requires_grad_()

    def pooled(self, boxes: Tensor) -> Tensor:
        return self.values[:, None].expand(-1, boxes.shape[1], -1)


def _boxes(count: int) -> Tensor:
    low = torch.tensor([5.0, -10, -2, 3, 1.4, 1.2, -3], dtype=torch.float64)
    spread = torch.tensor([20.0, 20, 1, 2, 1, 1, 6], dtype=torch.float64)
    return low + spread * torch.rand(count, 7, dtype=torch.float64)


def _proposal(**options: Any) -> LearnedProposal:
    torch.manual_seed(2)
    arguments = {"num_components": 3, "hidden_channels": (16,), **options}
    return LearnedProposal(_CHANNELS, _SIZES, BoxNoise(_STDS), **arguments).double()


def _spread(proposal: LearnedProposal, std: float = 0.3) -> LearnedProposal:
    """Outputs that differ from box to box."""
    torch.nn.init.normal_(proposal.network.layers[-1].weight, std=std)  # type: ignore[arg-type]
    return proposal


def _noise(count: int, **options: Any) -> BoundNoise:
    labels = torch.arange(count) % 2
    return BoxNoise(_STDS).around(_boxes(count), labels, **options)


def _bound(proposal: LearnedProposal, count: int = 4, seed: int = 0) -> BoundProposal:
    generator = torch.Generator().manual_seed(seed)
    features = _Features(torch.randn(count, _CHANNELS, dtype=torch.float64))
    return proposal.around(_noise(count, generator=generator), features, generator)


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_samples_fit_the_density(share: float):
    # The mean of g / q over samples of q is the integral of g, one for a density.
    bound = _bound(_spread(_proposal(base_share=share), 0.1))
    count, std = 20_000, 0.5
    samples = bound.sample(count)
    mean = bound.distribution.density.mean.detach()
    coding = bound.distribution.coding
    at = samples.boxes[:, 1:].transpose(0, 1)
    log_g = Normal(mean, std).log_prob(coding.encode(at)).sum(-1) - coding.log_volume(at)
    ratio = torch.exp(log_g.transpose(0, 1) - samples.log_q[:, 1:])
    error = ratio.std(dim=1) / math.sqrt(count)
    assert float(error.max()) < 0.1
    assert bool(((ratio.mean(dim=1) - 1).abs() <= 5 * error).all())


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_density_integrates_to_one(share: float):
    # The mean of q / r over samples of a known r. As wide as q in each box, so that no weight is
    # large: what q is mixed from, in equal parts.
    proposal = _spread(_proposal(base_share=0.5), 0.1)
    bound = _bound(proposal)
    count = 20_000
    samples = bound.sample(count)
    proposal.base_share = share
    ratio = torch.exp(bound.log_prob(samples.boxes) - samples.log_q)[:, 1:]
    error = ratio.std(dim=1) / math.sqrt(count)
    assert float(error.max()) < 0.02
    assert bool(((ratio.mean(dim=1) - 1).abs() <= 5 * error).all())


def test_density_is_the_mixture_of_the_learned_and_the_base():
    proposal = _spread(_proposal(base_share=0.3))
    bound = _bound(proposal)
    samples = bound.sample(9)
    learned = bound.distribution.log_prob(samples.boxes.transpose(0, 1)).transpose(0, 1)
    base = BoxNoise(_STDS).log_prob(bound.boxes, samples.boxes, bound.labels)
    expected = torch.log(0.7 * learned.exp() + 0.3 * base.exp())
    torch.testing.assert_close(samples.log_q, expected.detach())
    torch.testing.assert_close(bound.log_prob(samples.boxes), expected.detach())


def test_first_sample_is_the_true_box():
    bound = _bound(_proposal())
    torch.testing.assert_close(bound.sample(3).boxes[:, 0], bound.boxes)


def test_what_a_box_gets_of_shared_draws_does_not_depend_on_the_others():
    proposal = _spread(_proposal())
    boxes, values = _boxes(5), torch.randn(5, _CHANNELS, dtype=torch.float64)
    labels = torch.zeros(5, dtype=torch.int64)

    def drawn(rows: slice) -> NoiseSamples:
        source = torch.Generator().manual_seed(3)
        noise, own = BoxNoise(_STDS).shared(), boxes[rows]
        around = noise.around(own, labels[rows], reference=own, generator=source)
        return proposal.around(around, _Features(values[rows]), source, shared=True).sample(40)

    together = drawn(slice(5))
    assert not torch.allclose(together.boxes[0] - boxes[0], together.boxes[1] - boxes[1])
    for rows in (slice(0, 1), slice(2, 5), slice(5, 5)):
        found = drawn(rows)
        torch.testing.assert_close(found.boxes, together.boxes[rows])
        torch.testing.assert_close(found.log_q, together.log_q[rows])


@pytest.mark.parametrize(("axes", "sizes"), [("box", "log"), ("world", "metric")])
def test_true_box_enters_the_learned_part_by_the_reference_alone(axes: str, sizes: str):
    proposal, base = _spread(_proposal()), BoxNoise(_STDS, axes=axes, sizes=sizes)
    features = _Features(torch.randn(4, _CHANNELS, dtype=torch.float64))
    noise = base.around(_boxes(4), torch.arange(4) % 2)
    other = base.around(_boxes(4), noise.labels, reference=noise.reference)
    first, second = (proposal.predict(bound, features) for bound in (noise, other))
    torch.testing.assert_close(first.boxes, second.boxes)
    torch.testing.assert_close(first.covariance, second.covariance)


def test_samples_and_densities_carry_no_graph_and_the_features_no_gradient():
    proposal = _spread(_proposal())
    features = _Features(torch.randn(4, _CHANNELS, dtype=torch.float64))
    bound = proposal.around(_noise(4), features)
    samples = bound.sample(5)
    assert not samples.boxes.requires_grad
    assert not samples.log_q.requires_grad
    assert not bound.log_prob(samples.boxes).requires_grad
    f = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    bound.loss(samples, f).sum().backward()
    assert f.grad is None
    assert features.values.grad is None
    assert all(p.grad is not None for p in proposal.parameters())


def test_gradient_of_the_published_setting_is_that_of_the_published_loss():
    found = []
    for published in (True, False):
        proposal = _spread(_proposal(base_share=0.0, nll_weight=0.0))
        torch.manual_seed(3)
        bound = _bound(proposal)
        samples = bound.sample(12)
        f = torch.randn(4, 13, dtype=torch.float64)
        if published:
            log_q = bound.distribution.log_prob(samples.boxes[:, 1:].transpose(0, 1))
            loss = proposal_loss(f[:, 1:], log_q.transpose(0, 1)).sum()
        else:
            loss = bound.loss(samples, f).sum()
        found.append(torch.autograd.grad(loss, list(proposal.parameters())))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_cross_entropy_has_the_weights_of_importance_sampling_and_only_the_learned_part_a_graph():
    f, log_q, learned = (
        torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True) for _ in range(3)
    )
    found = energy_cross_entropy(f, log_q, learned)
    for row in itertools.product(range(2), range(3)):
        values = (part.detach()[row].tolist() for part in (f, log_q, learned))
        drawn = list(zip(*values, strict=True))
        weights = [math.exp(value - q) for value, q, _ in drawn]
        terms = [w * p for w, (_, _, p) in zip(weights, drawn, strict=True)]
        assert float(found.detach()[row]) == pytest.approx(-sum(terms) / sum(weights), rel=1e-12)
    found.sum().backward()
    assert f.grad is None
    assert log_q.grad is None
    torch.testing.assert_close(learned.grad, -torch.softmax(f - log_q, dim=-1).detach())


def test_loss_is_the_cross_entropy_with_the_energy_and_that_of_the_true_box():
    bound = _bound(_spread(_proposal(base_share=0.4, nll_weight=0.7)))
    samples = bound.sample(8)
    f = torch.randn(4, 9, dtype=torch.float64)
    log_q = bound.distribution.log_prob(samples.boxes.transpose(0, 1)).transpose(0, 1).detach()
    for row, loss in enumerate(bound.loss(samples, f).detach()):
        weights = [
            math.exp(float(f[row, m] - samples.log_q[row, m])) for m in range(1, 9)
        ]  # index 0 is not drawn
        terms = [w * float(log_q[row, m + 1]) for m, w in enumerate(weights)]
        expected = -sum(terms) / sum(weights) - 0.7 * float(log_q[row, 0])
        assert float(loss) == pytest.approx(expected, rel=1e-9)


def test_without_samples_the_true_box_alone_teaches():
    bound = _bound(_spread(_proposal(nll_weight=0.5)))
    expected = -0.5 * bound.distribution.log_prob(bound.boxes)
    torch.testing.assert_close(bound.loss(None, None), expected)


def _train(proposal: LearnedProposal, by_energy: bool, steps: int = 150) -> tuple[Tensor, Tensor]:
    """Mean error and relative error of the deviations, in standard deviations of the target.

    The energy is the log density of a Gaussian of the residuals around the references, whose mean
    is the features (times a half) and whose deviations differ from dimension to dimension.
    """
    torch.manual_seed(0)
    count = 48
    std = torch.linspace(0.3, 0.9, 7, dtype=torch.float64)
    optimizer = torch.optim.Adam(proposal.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    features = _Features(torch.randn(count, _CHANNELS, dtype=torch.float64))
    labels = torch.zeros(count, dtype=torch.int64)
    references = _boxes(count)
    noise_std = BoxNoise(_STDS).noise_std(references, labels)
    coding = LocalCoding(references, noise_std)
    target = Normal(0.5 * features.values.detach(), std.expand(count, 7))
    for _ in range(steps):
        true = coding.decode(target.sample())
        noise = BoxNoise(_STDS).around(true, labels, reference=references)
        bound = proposal.around(noise, features)
        samples, f = None, None
        if by_energy:
            samples = bound.sample(32)
            at = samples.boxes.transpose(0, 1)
            log_p = target.log_prob(coding.encode(at)).sum(-1) - coding.log_volume(at)
            f = log_p.transpose(0, 1) + 5.0
        optimizer.zero_grad()
        bound.loss(samples, f).mean().backward()
        optimizer.step()
        schedule.step()
    density = bound.distribution.density
    error = (density.mean - target.mean) / std
    return error.detach(), (density.variance.sqrt() / std - 1).detach()


@pytest.mark.parametrize("options", [{"nll_weight": 0.0}, {"nll_weight": 0.0, "base_share": 0.0}])
def test_proposal_recovers_the_density_of_the_energy(options: dict[str, float]):
    error, excess = _train(_proposal(num_components=2, hidden_channels=(32,), **options), True)
    assert float(error.square().mean().sqrt()) < 0.1
    assert float(excess.abs().mean()) < 0.05


def test_proposal_recovers_the_density_of_the_truth_without_an_energy():
    error, excess = _train(_proposal(num_components=2, hidden_channels=(32,)), False)
    assert float(error.square().mean().sqrt()) < 0.2
    assert float(excess.abs().mean()) < 0.1


def test_fresh_proposal_is_about_as_wide_as_the_base_noise():
    bound = _bound(_proposal(num_components=5))
    stds = bound.distribution.density.variance.detach().sqrt()
    assert bool(((stds > 0.9) & (stds < 1.5)).all())
    assert float(bound.distribution.density.mean.detach().abs().max()) < 0.2


def test_deviations_and_means_stay_in_their_bounds():
    proposal = _spread(_proposal(std_range=(0.1, 2.0), max_mean=3.0), 1e3)
    density: Any = _bound(proposal).distribution.density.detach()
    stds = torch.exp(density.log_variances / 2)
    # Outputs this large reach the bounds.
    assert float(stds.min()) == pytest.approx(0.1)
    assert float(stds.max()) == pytest.approx(2.0)
    assert float(density.means.abs().max()) == pytest.approx(3.0)


def test_what_was_detected_can_be_the_place_to_look_at():
    noise = DetectionNoise(BoxNoise(_STDS))
    proposal = LearnedProposal(_CHANNELS, _SIZES, noise, hidden_channels=(8,)).double()
    boxes, labels = _boxes(2), torch.zeros(2, dtype=torch.int64)
    found = Detections(boxes[:1] + 0.05, labels[:1])
    features = _Features(torch.randn(2, _CHANNELS, dtype=torch.float64))
    bound = proposal.around(noise.around(boxes, labels, [found]), features)
    torch.testing.assert_close(bound.distribution.coding.reference[0], found.boxes[0])
    assert proposal.base is noise.base
    assert bool(torch.isfinite(bound.sample(4).log_q).all())


def test_narrowed_noise_is_the_base_around_the_true_boxes():
    bound = _bound(_proposal())
    narrow = bound.scale_std(0.2)
    torch.testing.assert_close(narrow.boxes, bound.boxes)
    torch.testing.assert_close(narrow.noise_std, 0.2 * bound.noise_std)


def test_no_boxes_are_fine():
    bound = _bound(_proposal(), 0)
    samples = bound.sample(3)
    assert samples.boxes.shape == (0, 4, 7)
    assert bound.loss(samples, torch.zeros(0, 4, dtype=torch.float64)).shape == (0,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_components": 0}, "num_components must be at least 1"),
        ({"base_share": 1.0}, r"base_share must be in \[0, 1\)"),
        ({"nll_weight": -1.0}, "nll_weight must be at least 0"),
        ({"std_range": (1.0, 0.5)}, "std_range must be two numbers, positive, finite and rising"),
        ({"max_mean": 0.0}, "max_mean must be positive"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        _proposal(**options)


def test_loss_without_a_teacher_is_refused():
    bound = _bound(_proposal(nll_weight=0.0))
    with pytest.raises(ValueError, match="nll_weight must be positive where"):
        bound.loss(None, None)


def test_f_of_another_number_of_samples_is_refused():
    bound = _bound(_proposal())
    samples: NoiseSamples = bound.sample(3)
    with pytest.raises(ValueError, match=r"log_q must have shape \(4, 2\) like f"):
        bound.loss(samples, torch.zeros(4, 3, dtype=torch.float64))

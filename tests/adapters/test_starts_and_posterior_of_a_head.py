"""Options of the energy-based head: search for starts, ascent of the posterior."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("mmdet3d")

from tests.adapters.refined import REFINEMENT_HEAD, Frames, build_frames, build_head, refine

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]

_SEARCH = {"num_candidates": 16, "num_rounds": 1, "num_starts": 2}
_ALL: dict[str, Any] = {"search": _SEARCH, "temperature": 3.0, "trust_heading": False}


def _refined(head: Any, frames: Frames) -> dict[str, torch.Tensor]:
    """Fields of all boxes, frame after frame."""
    outs = refine(head, frames)
    return {name: torch.cat([out[name] for out in outs]) for name in outs[0]}


@pytest.mark.parametrize("options", [{"search": _SEARCH}, {"temperature": 3.0}, _ALL])
def test_f_is_that_of_the_detected_and_the_refined_box(options: dict[str, Any]):
    head, frames = build_head(**options), build_frames()
    refined = _refined(head, frames)
    f = head.make_energy(frames.bev, frames.points, frames.boxes, frames.labels)
    with torch.no_grad():
        torch.testing.assert_close(refined["f_initial"], f(torch.cat(frames.boxes)))
        torch.testing.assert_close(refined["f_refined"], f(refined["boxes"]), atol=1e-4, rtol=1e-4)
    if "temperature" not in options:
        assert bool((refined["f_refined"] >= refined["f_initial"]).all())
    again = _refined(head, frames)
    assert all(torch.equal(refined[name], again[name]) for name in refined)


def test_a_box_is_refined_alike_alone():
    head, frames = build_head(**_ALL), build_frames()
    together = refine(head, frames)
    for frame in range(len(frames.boxes)):
        alone = refine(head, frames.one(frame))[0]
        torch.testing.assert_close(alone["boxes"], together[frame]["boxes"], atol=1e-3, rtol=1e-3)


def test_boxes_stay_where_the_energy_is_not_trusted():
    head, frames = build_head(temperature=1e9), build_frames()
    moved = _refined(head, frames)["boxes"] - torch.cat(frames.boxes)
    assert float(moved.abs().max()) < 1e-3


def test_a_search_reaches_a_higher_f_than_the_detected_box_alone():
    frames, search = build_frames(), {**_SEARCH, "num_candidates": 64}
    alone, searched = (_refined(build_head(search=s), frames) for s in (None, search))
    assert float((searched["f_refined"] - alone["f_refined"]).mean()) > 0


def test_the_density_is_that_of_the_posterior():
    """Where f is not trusted, the Gaussian of the detector's errors."""
    head, frames = build_head(temperature=1e9, uncertainty="laplace"), build_frames()
    std = torch.tensor(REFINEMENT_HEAD["noise"]["stds"])
    for out, boxes in zip(refine(head, frames), frames.boxes, strict=True):
        expected = torch.cat((std[2:3].expand(len(boxes), 1), boxes[:, 3:6] * std[3:6]), dim=1)
        torch.testing.assert_close(out["box_std"][:, 2:6], expected, atol=0, rtol=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"search": {"num_draws": 3}}, "search must be a dict of num_candidates"),
        ({"search": {"num_starts": 0}}, "num_starts must be at least 1"),
        (
            {
                "temperature": 3.0,
                "loss": {"type": "SNLLoss"},
                "log_density": {"method": "learned"},
            },
            "'importance' or 'laplace' with a temperature",
        ),
    ],
)
def test_wrong_options_are_refused_by_name(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        build_head(**options)

import numpy as np
import pytest
import torch

from ebm3d.boxes.points_in_boxes import points_in_boxes
from ebm3d.refinement.augmentation import Augmentation


@pytest.mark.parametrize("seed", range(8))
def test_points_stay_in_their_boxes(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.tensor(
        [[12.0, 3.0, -1.7, 4.1, 1.7, 1.5, 0.4], [-20.0, 9.0, -1.6, 0.8, 0.6, 1.8, -2.5]]
    )
    unit = torch.rand(400, 3, generator=generator) - torch.tensor([0.5, 0.5, 0.0])
    local = unit * boxes.repeat_interleave(200, 0)[:, 3:6] * 0.99
    yaw = boxes.repeat_interleave(200, 0)[:, 6]
    x = local[:, 0] * yaw.cos() - local[:, 1] * yaw.sin()
    y = local[:, 0] * yaw.sin() + local[:, 1] * yaw.cos()
    center = boxes.repeat_interleave(200, 0)[:, :3]
    points = torch.cat((torch.stack((x, y, local[:, 2]), 1) + center, torch.rand(400, 1)), 1)
    augment = Augmentation(max_dropped=0.0)
    moved, new_boxes = augment(points, boxes, generator)
    inside = points_in_boxes(moved.numpy(), new_boxes.numpy())
    assert inside.sum() == len(points) == len(moved)
    assert np.array_equal(inside.sum(0), [200, 200])
    assert torch.equal(moved[:, 3], points[:, 3])
    assert bool((new_boxes[:, 6].abs() <= np.pi).all())
    assert not torch.allclose(new_boxes, boxes)
    yaw = new_boxes[:, 6].repeat_interleave(200, 0)
    offset = moved[:, :2] - new_boxes[:, :2].repeat_interleave(200, 0)
    along = offset[:, 0] * yaw.cos() + offset[:, 1] * yaw.sin()
    assert torch.equal(along > 0, local[:, 0] > 0)  # fronts stay in front


def test_points_are_dropped_up_to_the_share() -> None:
    generator = torch.Generator().manual_seed(0)
    points, boxes = torch.rand(1000, 4), torch.zeros(0, 7)
    kept = [len(Augmentation()(points, boxes, generator)[0]) for _ in range(20)]
    assert min(kept) > 400
    assert max(kept) > 900

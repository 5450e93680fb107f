import numpy as np
import torch

from ebm3d.boxes.codings import LocalCoding
from ebm3d.boxes.iou import iou_3d
from ebm3d.refinement.energy_file import load_energy, shipped_energy
from ebm3d.refinement.refiner import BoxRefiner, DetectedFrame
from ebm3d.refinement.trust import BandTrust, Trust
from ebm3d.simulation import simulate_frame


def test_the_shipped_energy_tightens_boxes_of_frames_it_has_not_seen() -> None:
    file = load_energy(shipped_energy())
    assert file.training["data"] == "simulated"
    settings = file.energy.settings
    noise = torch.tensor(settings.noise_stds[0])
    errors = BandTrust(3.0, settings.noise_stds[0])
    trust = Trust(((errors,),) * len(settings.class_names), borders=())
    generator = torch.Generator().manual_seed(0)
    before, after = [], []
    for seed in range(6):
        made = simulate_frame(900 + seed)
        chosen = (made.names == "Car") & (made.num_points >= 50)
        boxes = torch.from_numpy(made.boxes[chosen]).float()
        coding = LocalCoding(boxes, noise.expand(len(boxes), 7))
        detected = coding.decode(torch.randn(boxes.shape, generator=generator)).double().numpy()
        labels = np.full(len(boxes), settings.class_names.index("Car"))
        frame = DetectedFrame(made.points, detected, labels, np.ones(len(boxes)))
        (refined,) = BoxRefiner(file.energy, trust)([frame])
        for boxes_of, found in ((detected, before), (refined.boxes, after)):
            found += iou_3d(boxes_of, made.boxes[chosen], aligned=True).tolist()
    assert len(before) > 10
    assert np.mean(after) > np.mean(before) + 0.1

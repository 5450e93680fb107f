"""Measure what refining boxes in motion costs beside the stock CenterPoint.

python tools/benchmarks/refinement_nuscenes.py --data data/simulated_drives/ --boxes 100 --threads 1

The detector is the host's CenterPoint with pillars of 0.2 m and random weights, on the key frame of
the data set with the most labels, with its sweeps; its time is that of the model alone, without
voxelization and data loading. Boxes are the labels of all classes with the noise of the head, each
as often as needed. Refinement is everything the head does: projection, crops, gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from _report import facts, parser_of, print_table, ratio, shown, spread, take_turns, write_json
from mmdet3d.registry import DATASETS, MODELS
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope

from ebm3d.adapters.engine import load_settings
from ebm3d.adapters.parts import features_of, part_of

CONFIG = "ebm_centerpoint_nuscenes.py"
DETECTOR = "CenterPoint"


def make_stages(data: str, count: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the stages by name, and facts about their input."""
    cfg = load_settings(CONFIG, cfg_options={"data_root": data})
    init_default_scope("mmdet3d")
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).eval()
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    dataset.full_init()
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    labels_of = [torch.as_tensor(info["eval_ann_info"]["gt_labels_3d"]) for info in infos]
    # The first frame of a drive has no sweeps.
    counts = [
        int((labels >= 0).sum()) if info.get("lidar_sweeps") else 0
        for info, labels in zip(infos, labels_of, strict=True)
    ]
    frame = max(range(len(infos)), key=counts.__getitem__)
    true = infos[frame]["eval_ann_info"]["gt_bboxes_3d"].tensor
    kept = ((labels_of[frame] >= 0) & true.isfinite().all(dim=1)).nonzero()[:, 0]
    rows = kept[torch.arange(count) % len(kept)]
    labels, scores = labels_of[frame][rows], torch.linspace(1, 0.1, count)
    batch = model.data_preprocessor(pseudo_collate([dataset[frame]]), False)
    head = part_of(model, "bbox_head")
    refinement = head.refinement_head
    generator = torch.Generator().manual_seed(0)
    boxes = refinement.noise.sample(true[rows].float(), labels, 1, generator).boxes[:, 1]
    inputs, samples = batch["inputs"], batch["data_samples"]
    with torch.no_grad():
        features = features_of(model, inputs, samples)

    def detect() -> Any:
        with torch.no_grad():
            maps = features_of(model, inputs, samples).maps
            return head.dense_head.predict(maps, samples)

    def refine() -> Any:
        return refinement.refine(features.maps[0], features.points, [boxes], [labels], [scores])

    case = {"points": len(features.points[0]), "boxes": count, "labels": len(kept)}
    return {DETECTOR: detect, "refinement": refine}, case


def main() -> None:
    """Measure, print, write."""
    parser = parser_of(__doc__, boxes=100, repeats=7)
    parser.add_argument("--data", default="data/simulated_drives/", help="default: %(default)s")
    parser.add_argument("--threads", type=int, help="of torch; its own choice if left out")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    stages, case = make_stages(args.data, args.boxes)
    seconds = take_turns(stages, args.repeats, warm_up=1)
    rows = [
        (name, *(shown(spread(seconds[kind][name]), 1e3, 1) for kind in seconds)) for name in stages
    ]
    print_table("median (lowest to highest), milliseconds", ("stage", *seconds), rows)
    shares = {k: ratio(s["refinement"], s[DETECTOR]) for k, s in seconds.items()}
    cells = [f"{share:.3f}" for share in shares.values()]
    print_table("ratio", ("", *seconds), [("share of the detector", *cells)])
    write_json(args.json, {**facts(), **case, "seconds": seconds, "share": shares})


if __name__ == "__main__":
    main()

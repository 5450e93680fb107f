# pointpillars_simulated_cpu.py with densities of boxes: learned label encodings (RLEL).
_base_ = ["./pointpillars_simulated_cpu.py", "./_base_/regressions/dense_rlel.py"]

model = dict(
    bbox_head=dict(type="DistributionAnchor3DHead", loss_bbox=None, regression=_base_.regression)
)

# pointpillars_simulated_cpu.py with densities of boxes: binary label encodings (BEL).
_base_ = ["./pointpillars_simulated_cpu.py", "./_base_/regressions/dense_bel.py"]

model = dict(
    bbox_head=dict(type="DistributionAnchor3DHead", loss_bbox=None, regression=_base_.regression)
)

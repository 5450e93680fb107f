# pointpillars_simulated_cpu.py with densities of boxes: regression by classification.
_base_ = ["./pointpillars_simulated_cpu.py", "./_base_/regressions/dense_binned.py"]

model = dict(
    bbox_head=dict(type="DistributionAnchor3DHead", loss_bbox=None, regression=_base_.regression)
)

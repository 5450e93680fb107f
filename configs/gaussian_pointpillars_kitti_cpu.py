# pointpillars_kitti_cpu.py with densities of boxes: Gaussian residuals.
_base_ = ["./pointpillars_kitti_cpu.py", "./_base_/regressions/dense_gaussian.py"]

model = dict(
    bbox_head=dict(type="DistributionAnchor3DHead", loss_bbox=None, regression=_base_.regression)
)

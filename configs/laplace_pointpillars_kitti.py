# pointpillars_kitti.py with densities of boxes: Laplace residuals.
_base_ = ["./pointpillars_kitti.py", "./_base_/regressions/dense_laplace.py"]

model = dict(
    bbox_head=dict(type="DistributionAnchor3DHead", loss_bbox=None, regression=_base_.regression)
)

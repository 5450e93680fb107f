# second_kitti_cpu.py with densities of boxes: mixtures of Gaussians (PROPEL).
_base_ = ["./second_kitti_cpu.py", "./_base_/regressions/dense_propel.py"]

model = dict(
    bbox_head=dict(type="DistributionAnchor3DHead", loss_bbox=None, regression=_base_.regression)
)

# pointpillars_kitti_cpu.py with densities of boxes: the host's own box regression.
_base_ = ["./pointpillars_kitti_cpu.py", "./_base_/regressions/dense_direct.py"]

model = dict(
    bbox_head=dict(type="DistributionAnchor3DHead", loss_bbox=None, regression=_base_.regression)
)

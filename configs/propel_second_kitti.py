# second_kitti.py with densities of boxes: PROPEL, mixtures of Gaussians.
_base_ = ["./second_kitti.py", "./_base_/heads/propel.py"]

model = dict(bbox_head=dict(type="DistributionAnchor3DHead", loss_bbox=None, **_base_.dense_head))

"""Dense heads of the host, wrapped or with their box regression replaced."""

from ebm3d.adapters.dense_heads.distribution_anchor3d_head import DistributionAnchor3DHead
from ebm3d.adapters.dense_heads.refined_dense_head import RefinedDenseHead

__all__ = ["DistributionAnchor3DHead", "RefinedDenseHead"]

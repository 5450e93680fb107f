"""Heads that refine boxes on pooled features."""

from ebm3d.adapters.refinement_heads import components
from ebm3d.adapters.refinement_heads.ebm_refinement_head import EBMRefinementHead
from ebm3d.adapters.refinement_heads.refinement_head import RefinementHead
from ebm3d.adapters.refinement_heads.regression_refinement_head import RegressionRefinementHead

__all__ = ["EBMRefinementHead", "RefinementHead", "RegressionRefinementHead", "components"]

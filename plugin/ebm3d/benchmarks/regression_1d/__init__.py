"""One-dimensional regression: every training method on the same small network and data.

K models of a method are trained at once, as one batched network whose energy is compiled;
:func:`make_methods` lists the methods, :func:`train` trains them, :func:`kl_divergence` measures
them. docs/method.md, M-32.
"""

from __future__ import annotations

from ebm3d.benchmarks.regression_1d.evaluation import kl_divergence
from ebm3d.benchmarks.regression_1d.methods import make_methods
from ebm3d.benchmarks.regression_1d.problem import PROBLEMS, Problem
from ebm3d.benchmarks.regression_1d.training import Budget, Training, model_seeds, train

__all__ = [
    "PROBLEMS",
    "Budget",
    "Problem",
    "Training",
    "kl_divergence",
    "make_methods",
    "model_seeds",
    "train",
]

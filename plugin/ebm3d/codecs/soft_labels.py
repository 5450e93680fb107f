r"""Labels shared among levels."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm3d.errors import check_positive, input_error

SOFT_LABELS = ("laplace", "gaussian", "linear")


def soft_labels(labels: Tensor, num_levels: int, kind: str, width: float = 1.0) -> Tensor:
    r"""Share each label among the levels.

    .. math::
        \phi_j \propto e^{-|j - y| / w} \text{ (Laplace)}, \qquad
        \phi_j \propto e^{-(j - y)^2 / 2 w^2} \text{ (Gaussian)}, \qquad
        \phi_j = \max(0, 1 - |j - y|) \text{ (linear)}

    Source: Shah and Aamodt, "Learning Label Encodings for Deep Regression", ICLR 2023 (Laplace with
    w = 1). docs/method.md, M-13 and M-14.

    The expected level of linear labels is y exactly. That of the others is y on a level and midway
    between two, far from the ends; for w = 1 it is off by less than 0.016 levels (Laplace) or 5e-8
    (Gaussian) in between, and drawn inwards near an end, by 0.58 levels (Laplace) at it.

    Labels y ``(...)`` in [0, L - 1]; returns ``(..., L)``. ``width`` is w, in levels.
    """
    check_soft_labels(kind, width)
    levels = torch.arange(num_levels, dtype=labels.dtype, device=labels.device)
    distance = (levels - labels[..., None]).abs()
    if kind == "linear":
        return (1 - distance).clamp_min(0)
    scaled = distance / width
    return torch.softmax(-scaled if kind == "laplace" else -scaled.square() / 2, dim=-1)


def check_soft_labels(kind: str, width: float) -> None:
    """Raise unless :func:`soft_labels` knows the kind and the width is positive."""
    if kind not in SOFT_LABELS:
        raise input_error("soft_label", f"one of {', '.join(SOFT_LABELS)}", repr(kind))
    check_positive("width", width)

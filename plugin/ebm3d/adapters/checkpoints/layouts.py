"""Tensors of a checkpoint under the names and in the kernel order of a model.

Sparse kernels are stored as (out, k, k, k, in) by spconv 2, (k, k, k, in, out) by spconv 1 and
mmcv, (k, k, k, out, in) by the native kernels of spconv 2.0 and 2.1.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any

from torch import Tensor, nn

from ebm3d.errors import input_error

_STATES = (
    "state_dict", "model_state_dict", "model_state", "model", "net",
    "ema_state_dict", "state_dict_ema", "model_ema",
)  # fmt: skip
_TOOLBOXES = {
    "OpenPCDet": ("backbone_3d.", "backbone_2d.", "dense_head.", "vfe.", "map_to_bev_module."),
    "Det3D": ("reader.",),
    "second.pytorch": ("voxel_feature_extractor.", "middle_feature_extractor.", "rpn."),
}
_WRAPPED = "dense_head."


def state_for(model: nn.Module, checkpoint: Any, name: str) -> OrderedDict[str, Tensor]:
    """Return the tensors of a checkpoint, for ``model.load_state_dict``.

    Args:
        model: a detector; not changed.
        checkpoint: what ``torch.load`` gave: of mmengine or another toolbox, tensors alone, of a
            model in a wrapper (``module.``), or an exponential moving average.
        name: of the file, for errors.

    Raises:
        ValueError: if it holds no tensors by name.
    """
    holder = checkpoint if isinstance(checkpoint, dict) else {}
    stored = next((holder[key] for key in _STATES if isinstance(holder.get(key), dict)), holder)
    state = OrderedDict((k, v) for k, v in stored.items() if isinstance(v, Tensor))
    if not state:
        kind = type(checkpoint).__name__
        got = f"a {kind} of {', '.join(map(str, list(holder)[:5]))}" if holder else f"a {kind}"
        raise input_error(f"checkpoint {name}", "a file with the tensors of a model", got)
    names = set(model.state_dict())
    known = names | {key.replace(_WRAPPED, "") for key in names}
    prefix = _prefix_of(list(state), known)
    metadata = getattr(stored, "_metadata", None) or {}
    result = OrderedDict((k.removeprefix(prefix), v) for k, v in state.items() if prefix in k)
    versions = {key.removeprefix(prefix): value for key, value in metadata.items()}
    for key in [key for key in result if key not in names]:
        if (bare := key.replace(f".{_WRAPPED}", ".")) in names:  # the detector below a refinement
            result[bare] = result.pop(key)
            continue
        for place, module in model.named_modules():  # a wrapped dense head's checkpoint
            if hasattr(module, "dense_head") and key.startswith(f"{place}."):
                renamed = f"{place}.{_WRAPPED}{key.removeprefix(f'{place}.')}"
                if renamed in names:
                    result[renamed] = result.pop(key)
    _order_kernels(model, result)
    # The host permutes the kernels of every layer whose version is not 2.
    versions.update({place: {"version": 2} for place in _sparse_modules(model)})
    result._metadata = versions  # type: ignore[attr-defined]
    return result


def toolbox_of(names: set[str], state: dict[str, Tensor]) -> str:
    """Return of which toolbox a checkpoint is whose names are not the model's; "" if unknown."""
    for toolbox, prefixes in _TOOLBOXES.items():
        unknown = [k for k in state if k.startswith(prefixes) and k not in names]
        if unknown:
            shown = ", ".join(unknown[:2])
            return (
                f"this is a checkpoint of {toolbox}, whose parameters have other names ({shown}); "
                "train the detector of this config instead"
            )
    return ""


def _prefix_of(keys: list[str], known: set[str]) -> str:
    """What wrappers put before the names of a model: ``module.``, ``model.``, ``_orig_mod.``."""
    prefix = ""
    while not any(key.removeprefix(prefix) in known for key in keys):
        rests = [key.removeprefix(prefix).partition(".") for key in keys if key.startswith(prefix)]
        parts = Counter(first for first, dot, _ in rests if dot)
        hits = Counter(first for first, _, rest in rests if rest in known)
        best, count = hits.most_common(1)[0] if hits else (next(iter(parts), ""), 0)
        if not parts or (2 * count < parts[best] and len(parts) > 1):
            return ""
        prefix += f"{best}."
    return prefix


def _sparse_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Places of spconv's modules."""
    from spconv.pytorch.modules import SparseModule

    return {
        place: module for place, module in model.named_modules() if isinstance(module, SparseModule)
    }


def _order_kernels(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Permute sparse kernels to the model's order: by shape, or as most layers where two fit."""
    fitting: dict[str, list[int]] = {}
    for place, module in _sparse_modules(model).items():
        key, weight = f"{place}.weight", getattr(module, "weight", None)
        if isinstance(weight, Tensor) and key in state and state[key].ndim == weight.ndim > 2:
            shapes = [state[key].permute(order).shape for order in _orders(weight.ndim)]
            fitting[key] = [i for i, shape in enumerate(shapes) if shape == weight.shape]
    votes = Counter(fits[0] for fits in fitting.values() if len(fits) == 1)
    for key, fits in fitting.items():
        if fits:
            best = max(fits, key=lambda order: (votes[order], -order))
            state[key] = state[key].permute(_orders(state[key].ndim)[best])


def _orders(ndim: int) -> tuple[tuple[int, ...], ...]:
    """Permutations to (out, k, ..., in) from the orders of spconv 2, of 1, and of 2.0's native."""
    space, last = range(ndim - 2), ndim - 1
    return tuple(range(ndim)), (last, *range(last)), (ndim - 2, *space, last)

"""Training the refinement head on a detector that does not change."""

from __future__ import annotations

from typing import Any

from mmdet3d.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import nn

_TRAINED = "refinement_head"


@HOOKS.register_module()
class FreezeDetectorHook(Hook):
    """Freeze a detector: its parameters and its batch-norm statistics.

    Acts when the model's dense head has ``detector == "frozen"``: everything but the modules under
    ``refinement_head`` has no gradients and stays in evaluation mode. Data-parallel training needs
    ``find_unused_parameters = True`` in the config.

    Args:
        untrained: allow a frozen detector that no checkpoint was loaded into.
    """

    priority = "VERY_HIGH"

    def __init__(self, untrained: bool = False) -> None:
        self.untrained = untrained

    def before_run(self, runner: Any) -> None:
        """Freeze before the optimizer is used."""
        _freeze(runner.model)

    def before_train(self, runner: Any) -> None:
        """Refuse to train a head on a detector of random weights."""
        if is_frozen(runner.model) and not runner._has_loaded and not self.untrained:
            raise ValueError(
                "load_from must be a checkpoint of the detector that detector='frozen' does not "
                "train, but got None; train the detector first and give its checkpoint with "
                "--cfg-options load_from=CHECKPOINT."
            )

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Freeze again whenever the loop has set the model to training mode."""
        if _unwrapped(runner.model).training:
            _freeze(runner.model)


def _unwrapped(model: Any) -> Any:
    """The model without its data-parallel wrapper."""
    return model.module if is_model_wrapper(model) else model


def is_frozen(model: nn.Module) -> bool:
    """Whether a head of the model asks for a frozen detector."""
    return any(getattr(module, "detector", None) == "frozen" for module in model.modules())


def _freeze(model: nn.Module) -> None:
    """Freeze everything outside ``refinement_head``, which must exist, if a head asks for it."""
    detector = _unwrapped(model)
    if not is_frozen(detector):
        return
    modules = [m for name, m in detector.named_modules() if _TRAINED in name.split(".")]
    modes = {module: module.training for module in modules}
    if not modes:
        raise ValueError(
            "detector='frozen' trains the refinement head alone, but the model has no module "
            "called refinement_head; add one, or say detector='joint'."
        )
    for name, parameter in detector.named_parameters():
        if _TRAINED not in name.split("."):
            parameter.requires_grad_(False)
    detector.eval()
    for module, mode in modes.items():
        module.training = mode

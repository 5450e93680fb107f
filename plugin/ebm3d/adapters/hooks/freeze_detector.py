"""Training the refinement head on a detector that does not change."""

from __future__ import annotations

from typing import Any, cast

from mmdet3d.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import nn

_TRAINED = "refinement_head"


@HOOKS.register_module()
class FreezeDetectorHook(Hook):
    """Hold a frozen detector still: its parameters and its batch-norm statistics.

    Acts when the model's dense head has ``detector == "frozen"`` and does nothing when it is
    ``"joint"`` or the head has no such option. Everything but the modules under
    ``refinement_head`` keeps its parameters without gradients and stays in evaluation mode,
    before training and again at every epoch, since the training loop turns the whole model back
    to training mode. Data-parallel training of a frozen detector needs
    ``find_unused_parameters = True`` in the config, as in ``_base_/schedules/refinement_8e.py``.

    Args:
        untrained: allow a frozen detector that no checkpoint was loaded into.
    """

    priority = "VERY_HIGH"

    def __init__(self, untrained: bool = False) -> None:
        self.untrained = untrained

    def before_run(self, runner: Any) -> None:
        """Take the gradients from the detector before the optimizer is used."""
        if is_detector_frozen(runner.model):
            freeze_detector(runner.model)

    def before_train(self, runner: Any) -> None:
        """Refuse to train a head on a detector of random weights.

        Raises:
            ValueError: if the detector is frozen and no checkpoint was loaded.
        """
        if is_detector_frozen(runner.model) and not runner._has_loaded and not self.untrained:
            raise ValueError(
                "load_from must be a checkpoint of the detector that detector='frozen' holds "
                "still, but got None; train the detector first and give its checkpoint with "
                "--cfg-options load_from=CHECKPOINT."
            )

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Hold the statistics still whenever the loop has turned the model to training mode."""
        detector = _unwrapped(runner.model)
        if detector.training and is_detector_frozen(detector):
            freeze_detector(detector)


def is_detector_frozen(model: nn.Module) -> bool:
    """Whether a head of the model asks for a frozen detector."""
    return any(getattr(module, "detector", None) == "frozen" for module in model.modules())


def freeze_detector(model: nn.Module) -> None:
    """Freeze everything outside ``refinement_head``: no gradients, evaluation mode.

    Args:
        model: the detector, in a data-parallel wrapper or not; changed in place.

    Raises:
        ValueError: if no module of the model is called ``refinement_head``, so that nothing
            would be trained.
    """
    detector = _unwrapped(model)
    trained = [module for name, module in detector.named_modules() if _is_trained(name)]
    if not trained:
        raise ValueError(
            "detector='frozen' trains the refinement head alone, but the model has no module "
            "called refinement_head; add one, or say detector='joint'."
        )
    for name, parameter in detector.named_parameters():
        if not _is_trained(name):
            parameter.requires_grad_(False)
    modes = {module: module.training for module in trained}
    detector.eval()
    for module, mode in modes.items():
        module.training = mode


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, without its data-parallel wrapper."""
    inner: Any = model.module if is_model_wrapper(model) else model
    return cast(nn.Module, inner)


def _is_trained(name: str) -> bool:
    """Whether a dotted name lies under the refinement head."""
    return _TRAINED in name.split(".")

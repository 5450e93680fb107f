"""The learning rates of a resumed training are those of its config."""

from __future__ import annotations

import logging
from copy import deepcopy
from typing import Any

from mmdet3d.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapperDict
from mmengine.optim.scheduler import ReduceOnPlateauLR, ReduceOnPlateauMomentum

_PROGRESS = {"last_step", "_global_step", "_last_value"}


@HOOKS.register_module()
class ResumedScheduleHook(Hook):
    """Recompute a resumed schedule where the config's differs from the checkpoint's.

    mmengine restores schedules with all their settings: a training resumed with other epochs,
    another batch size or another rate would go on with those of the checkpoint. Where they are
    equal nothing is touched. Schedules that depend on measured losses are left as they are.
    """

    def before_train(self, runner: Any) -> None:
        """Compare and recompute, once the checkpoint is loaded."""
        loop, restored = runner.train_loop, runner.param_schedulers
        if runner.iter == 0:
            return
        counts_epochs = "max_epochs" in runner.cfg.train_cfg
        if counts_epochs and runner.epoch >= runner.max_epochs:
            text = f"Nothing to train: the checkpoint has {runner.epoch} of {runner.max_epochs}"
            text += " epochs; for more, raise train_cfg.max_epochs."
            print_log(text, "current", logging.WARNING)
            return
        plateau = (ReduceOnPlateauLR, ReduceOnPlateauMomentum)
        if isinstance(runner.optim_wrapper, OptimWrapperDict) or not restored:
            return
        if any(isinstance(scheduler, plateau) for scheduler in restored):
            return
        optimizer = runner.optim_wrapper
        # Schedules write their start into the optimizer: a fresh one shows the config's.
        runner.optim_wrapper = runner.build_optim_wrapper(deepcopy(runner.cfg.optim_wrapper))
        try:
            fresh = runner.optim_wrapper
            runner.scale_lr(fresh, runner.auto_scale_lr)
            schedulers = runner.build_param_scheduler(deepcopy(runner.cfg.param_scheduler))
        finally:
            runner.optim_wrapper = optimizer
        if all(map(_is_continued, restored, schedulers, [runner.iter] * len(restored))):
            return
        length = len(runner.train_dataloader)
        if counts_epochs:
            loop._iter = runner.epoch * length
        fresh._global_step = 0  # or the host warns that steps were scheduled before any was taken
        for step in range(1, loop.iter + 1):
            for scheduler in schedulers:
                if not scheduler.by_epoch or (counts_epochs and step % length == 0):
                    scheduler.step()
        for group, new in zip(optimizer.param_groups, fresh.param_groups, strict=True):
            group.update({key: value for key, value in new.items() if key != "params"})
        for scheduler, new in zip(restored, schedulers, strict=True):
            scheduler.load_state_dict(new.state_dict())
        optimizer.initialize_count_status(runner.model, loop.iter, loop.max_iters)
        text = "The checkpoint's schedule is not the config's; the latter goes on, at"
        rate = optimizer.param_groups[0]["lr"]
        print_log(f"{text} epoch {runner.epoch} with learning rate {rate:.4g}.", "current")


def _is_continued(restored: Any, configured: Any, iterations: int) -> bool:
    """Whether a restored scheduler is the configured one after as many iterations."""
    states = [scheduler.state_dict() for scheduler in (restored, configured)]
    first, second = ({k: v for k, v in s.items() if k not in _PROGRESS} for s in states)
    return first == second and (restored.by_epoch or restored._global_step == iterations)

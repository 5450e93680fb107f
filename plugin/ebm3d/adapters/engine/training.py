"""Train a detector or a head from a config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.runner import Runner

from ebm3d.adapters.checkpoints import check_file, newest_checkpoint
from ebm3d.adapters.engine.data_checks import check_data
from ebm3d.adapters.engine.detector_source import choose_detector
from ebm3d.adapters.engine.schedules import check_schedule
from ebm3d.adapters.engine.settings import (
    apply_amp,
    default_work_dir,
    load_settings,
    read_config,
)
from ebm3d.adapters.hooks import PlainCheckpointHook, ResumedScheduleHook
from ebm3d.adapters.repairs import prepare_distributed_on_cpu


def train(
    config: str | Path,
    *,
    head: str | None = None,
    stage: str | None = None,
    loss: str | None = None,
    work_dir: str | Path | None = None,
    resume: str | None = None,
    amp: bool = False,
    seed: int | None = None,
    cfg_options: dict[str, Any] | None = None,
    launcher: str = "none",
) -> Runner:
    """Train to the end of the config's schedule; the resolved config is written beside the run.

    A head on a frozen detector without ``load_from`` takes the newest checkpoint of the detector's
    config, or is trained with it, see
    :func:`ebm3d.adapters.engine.detector_source.supply_detector`.

    Args:
        config: a config file, or the name of one that comes with the package.
        head: put on the config's detector, see :func:`ebm3d.adapters.engine.composition.compose`.
        stage: of ``head``, "dense" or "refinement".
        loss: of ``head``.
        work_dir: folder of logs and checkpoints.
        resume: ``"auto"`` for the newest checkpoint of ``work_dir`` (or the start, if there is
            none, from the config's ``load_from``), or a checkpoint file; ``None`` starts anew.
        amp: mixed precision, see :func:`ebm3d.adapters.engine.settings.apply_amp`.
        seed: seed of the run in place of the config's.
        cfg_options: values of the config by dotted key.
        launcher: how this process was started: ``none``, ``pytorch``, ``slurm`` or ``mpi``.

    Returns:
        The runner after its last epoch.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if a checkpoint cannot be resumed or loaded, see
            :func:`ebm3d.adapters.checkpoints.check_loading`.
    """
    options = cfg_options or {}
    plain = read_config(config, head=head, stage=stage, loss=loss)
    folder = Path(work_dir or options.get("work_dir") or default_work_dir(plain))
    resumed = newest_checkpoint(folder) if resume == "auto" else resume
    detector = choose_detector(plain, options, resumed)
    cfg = load_settings(
        config,
        head=head,
        stage=stage,
        loss=loss,
        work_dir=folder,
        seed=seed,
        cfg_options=options,
        launcher=launcher,
        adapt=None if detector is None else detector.apply,
    )
    check_schedule(cfg)
    if amp:
        apply_amp(cfg)
    if resumed is not None:
        cfg.resume, cfg.load_from = True, str(resumed)
    if cfg.get("load_from") is not None:
        check_file(cfg.load_from)
    check_data(cfg)
    for leftover in Path(cfg.work_dir).glob("*/vis_data/.partial-*"):  # of killed runs
        leftover.unlink(missing_ok=True)
    prepare_distributed_on_cpu(cfg)
    runner = Runner.from_cfg(cfg)
    if not any(isinstance(hook, PlainCheckpointHook) for hook in runner.hooks):
        runner.register_hook(PlainCheckpointHook())  # it checks what is loaded
    runner.register_hook(ResumedScheduleHook())
    if detector is not None:
        runner.logger.info(detector.message)
    runner.train()
    return runner

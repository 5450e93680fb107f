"""Train a detector or a head from a config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.runner import Runner

from ebm3d.adapters.engine.data_checks import check_data
from ebm3d.adapters.engine.detector_source import supply_detector
from ebm3d.adapters.engine.settings import (
    apply_amp,
    default_work_dir,
    load_settings,
    read_config,
)
from ebm3d.adapters.repairs import newest_checkpoint, prepare_distributed_on_cpu


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
    """
    cfg = read_config(config, head=head, stage=stage, loss=loss)
    options = cfg_options or {}
    folder = Path(work_dir or options.get("work_dir") or default_work_dir(cfg))
    resumed = newest_checkpoint(folder) if resume == "auto" else resume
    message = supply_detector(cfg, options, resumed)
    cfg = load_settings(cfg, work_dir=folder, seed=seed, cfg_options=options, launcher=launcher)
    if amp:
        apply_amp(cfg)
    if resumed is not None:
        cfg.resume, cfg.load_from = True, str(resumed)
    check_data(cfg)
    prepare_distributed_on_cpu(cfg)
    runner = Runner.from_cfg(cfg)
    if message is not None:
        runner.logger.info(message)
    runner.train()
    return runner

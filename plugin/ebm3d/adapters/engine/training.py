"""Train a detector or a head from a config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.runner import Runner

from ebm3d.adapters.engine.settings import apply_amp, load_settings
from ebm3d.adapters.repairs import find_latest_checkpoint, prepare_distributed_on_cpu


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
    cfg = load_settings(
        config,
        head=head,
        stage=stage,
        loss=loss,
        work_dir=work_dir,
        seed=seed,
        cfg_options=cfg_options,
        launcher=launcher,
    )
    if amp:
        apply_amp(cfg)
    if resume not in (None, "auto"):
        cfg.resume, cfg.load_from = True, resume
    elif resume == "auto" and find_latest_checkpoint(cfg.work_dir) is not None:
        cfg.resume, cfg.load_from = True, None
    prepare_distributed_on_cpu(cfg)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner

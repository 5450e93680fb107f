"""Schedules of the learning rate that end with the training."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from mmengine import Config
from mmengine.logging import print_log

from ebm3d.errors import check_count, input_error

_LENGTHS = ("T_max", "total_steps", "step_size")
_LISTS = ("milestones", "periods")
_RATES = ["optim_wrapper.optimizer.lr", "auto_scale_lr.enable"]


def scale_schedule(cfg: Config, old: int, options: Collection[str]) -> None:
    """Scale what counts epochs from ``old`` of them to ``train_cfg.max_epochs``.

    Args:
        cfg: settings of a run, changed in place.
        old: epochs that the schedule was written for.
        options: dotted keys that were set for the new number, and stay.
    """
    train = cfg.train_cfg
    check_count("train_cfg.max_epochs", train.max_epochs)
    new = train.max_epochs
    if new == old:
        return

    def is_set(place: str) -> bool:
        return any(f"{place}.".startswith(f"{option}.") for option in options)

    for place, scheduler in _schedulers(cfg):
        if not scheduler.get("by_epoch", True):
            continue
        whole = not scheduler.get("convert_to_iter_based", False)
        length = _length(scheduler)
        for key in ("begin", "end"):
            if isinstance(scheduler.get(key), int | float) and not is_set(f"{place}.{key}"):
                scheduler[key] = _scaled(scheduler[key], old, new, whole)
        for key in _LENGTHS:
            value = scheduler.get(key)
            if value is None or is_set(f"{place}.{key}"):
                continue
            if key == "T_max" and value == length:
                scheduler[key] = _length(scheduler)
            else:
                scheduler[key] = max(1, _scaled(value, old, new, whole or key != "T_max"))
        for key in _LISTS:
            if key in scheduler and not is_set(f"{place}.{key}"):
                # Down: a milestone at the end of the training would never be reached.
                scheduler[key] = [max(1, int(value * new / old)) for value in scheduler[key]]
    if "val_interval" in train and not is_set("train_cfg.val_interval"):
        train.val_interval = min(train.val_interval, new)
    if train.get("val_begin", 1) > old and not is_set("train_cfg.val_begin"):
        train.val_begin = new + 1
    if isinstance(cfg.get("param_scheduler"), list):  # phases shorter than half an epoch
        cfg.param_scheduler = [s for s in cfg.param_scheduler if _length(s) != 0]


def check_rate(plain: Config, cfg: Config, options: Mapping[str, Any]) -> None:
    """Raise where an option sets a learning rate that the schedule does not start from.

    One cycle, and the host's cosines up to ``eta_min``, hold their largest rate themselves.

    Args:
        plain: settings of a run.
        cfg: the same with options.
        options: dotted keys of the options.

    Raises:
        ValueError: naming the option that sets the largest rate.
    """
    old = (plain.get("optim_wrapper") or {}).get("optimizer", {}).get("lr")
    asked = [key for key in _RATES if key in options and (key != _RATES[1] or options[key])]
    if not asked or old is None or "lr" in options:
        return
    for place, scheduler in _schedulers(cfg):
        is_cycle = scheduler.get("type") == "OneCycleLR"
        rises = scheduler.get("type") == "CosineAnnealingLR" and scheduler.get("eta_min", 0) > old
        held = f"{place}.{'eta_max' if is_cycle else 'eta_min'}"
        if (is_cycle or rises) and held not in options:
            remedy = f"give {'lr=VALUE, which sets both' if 'lr' in cfg else f'{held}=VALUE'}"
            expected = f"given with {held}, which the schedule rises to"
            raise input_error(asked[0], expected, options[asked[0]], remedy)


def check_schedule(cfg: Config) -> None:
    """Raise where a schedule and the length of the training contradict each other.

    A schedule cut short never brings the learning rate down; some that are too short end the
    training with an error. One that ends early and stays there is said, not refused.

    Args:
        cfg: settings of a training; not changed.

    Raises:
        ValueError: with the place and the value that fits.
    """
    train = cfg.get("train_cfg") or {}
    key = "max_epochs" if "max_epochs" in train else "max_iters"
    limit = train.get(key)
    if limit is None:
        return
    for name in (key, "val_interval", "val_begin"):
        if name in train:
            check_count(f"train_cfg.{name}", train[name])
    last = []
    rate = (cfg.get("optim_wrapper") or {}).get("optimizer", {}).get("lr")
    for place, scheduler in _schedulers(cfg):
        if scheduler.get("type") == "OneCycleLR" and rate not in (None, scheduler.get("eta_max")):
            text = f"optim_wrapper.optimizer.lr={rate} has no effect: {place}.eta_max is the rate."
            print_log(text, "current", logging.WARNING)
        if scheduler.get("by_epoch", True) != (key == "max_epochs"):
            continue
        begin, end = scheduler.get("begin", 0), scheduler.get("end", limit)
        values = {name: begin + scheduler[name] for name in _LENGTHS[:2] if scheduler.get(name)}
        values |= {"periods": begin + sum(scheduler["periods"])} if "periods" in scheduler else {}
        values |= {"milestones": max(scheduler["milestones"])} if "milestones" in scheduler else {}
        for name, value in {"end": end, **values}.items():
            too_short = name == "total_steps" and value < min(end, limit)
            if value > limit or too_short:
                wanted = {"end": limit, "milestones": f"below {limit}"}.get(name, limit - begin)
                unit = key.removeprefix("max_")
                remedy = (
                    f"set both in the config, or keep its train_cfg.{key} and give --cfg-options "
                    f"train_cfg.{key}={limit}, which scales the schedule"
                )
                expected = f"{wanted}, to end with the {limit} {unit} of train_cfg.{key}"
                raise input_error(f"{place}.{name}", expected, scheduler.get(name), remedy)
        last.append(min([end, *(v for n, v in values.items() if n in ("total_steps", "periods"))]))
    if last and max(last) < limit:
        text = f"The schedule ends after {max(last)} of {limit}: the learning rate then stays."
        print_log(f"{text} See param_scheduler and train_cfg.{key}.", "current", logging.WARNING)


def _schedulers(cfg: Config) -> Iterator[tuple[str, Any]]:
    """The schedulers of a config with their dotted places."""
    schedulers = cfg.get("param_scheduler") or []
    if isinstance(schedulers, dict):
        schedulers = {"": schedulers} if "type" in schedulers else {}
    else:
        schedulers = {f".{index}": scheduler for index, scheduler in enumerate(schedulers)}
    for index, scheduler in schedulers.items():
        yield f"param_scheduler{index}", scheduler


def _length(scheduler: Any) -> Any:
    """From begin to end; None if it has no end."""
    end = scheduler.get("end")
    return None if end is None else end - scheduler.get("begin", 0)


def _scaled(value: float, old: int, new: int, whole: bool) -> float:
    """A number of epochs out of ``old`` in a training of ``new``."""
    scaled = value * new / old
    return round(scaled) if whole or scaled == int(scaled) else scaled

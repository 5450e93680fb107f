"""Checkpoints against models and configs: what is converted, what is refused, what is said."""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ebm3d

pytest.importorskip("mmdet3d")

from tests.adapters.tiny import build_detector

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]

_CONV = "middle_encoder.conv_input.0.weight"


@pytest.fixture(scope="module")
def state() -> Any:
    """Tensors of a small SECOND, as torch saves them."""
    import ebm3d.register  # noqa: F401

    return build_detector(seed=1).state_dict()


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged."""
    from ebm3d.adapters.checkpoints import loading

    said: list[str] = []
    monkeypatch.setattr(loading, "_warn", said.append)
    return said


@cache
def _shipped(name: str) -> Any:
    """A shipped config and its text."""
    from mmengine import Config

    cfg = Config.fromfile(ebm3d.config_path(name))
    return cfg, cfg.pretty_text


def config(name: str = "second_kitti_cpu.py", **options: Any) -> Any:
    """A shipped config with values of dotted keys."""
    cfg = deepcopy(_shipped(name)[0])
    cfg.merge_from_dict({key.replace("__", "."): value for key, value in options.items()})
    return cfg


def load(path: Path, content: Any, model: nn.Module, cfg: Any = None, **options: Any) -> Any:
    """Save, and load into a model."""
    from mmengine import Config

    from ebm3d.adapters.checkpoints import load_weights

    torch.save(content, path / "a.pth")
    return load_weights(model, path / "a.pth", cfg or Config(), **options)


def reordered(state: dict[str, Tensor], *order: int) -> dict[str, Tensor]:
    """Sparse kernels (out, z, y, x, in) with their axes in another order."""
    return {k: v.permute(order).contiguous() if v.ndim == 5 else v for k, v in state.items()}


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return OrderedDict((prefix + name, value) for name, value in state.items())


LAYOUTS: dict[str, Any] = {
    "saved": lambda s: {"state_dict": s},
    "without versions": lambda s: {"state_dict": dict(s)},
    "tensors alone": lambda s: dict(s),
    "under model": lambda s: {"model": dict(s)},
    "data parallel": lambda s: {"state_dict": prefixed(s, "module.")},
    "compiled and data parallel": lambda s: prefixed(s, "module._orig_mod."),
    "moving average": lambda s: {
        "ema_state_dict": {**prefixed(s, "module."), "steps": torch.tensor(3)}
    },
    "lightning": lambda s: {"state_dict": {**prefixed(s, "net."), "loss.w": torch.ones(2)}},
    "spconv 1": lambda s: {"state_dict": reordered(s, 1, 2, 3, 4, 0)},
    "native kernels of spconv 2.0": lambda s: reordered(s, 1, 2, 3, 0, 4),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_model(layout: str, state: Any, tmp_path: Path):
    model = build_detector()
    load(tmp_path, LAYOUTS[layout](state), model)
    torch.testing.assert_close(dict(model.state_dict()), dict(state), rtol=0, atol=0)


def test_versions_in_a_file_do_not_outweigh_the_shapes(state: Any, tmp_path: Path):
    """A converter keeps the version 2 of kernels that it puts into the order of spconv 1."""
    turned = OrderedDict(reordered(state, 1, 2, 3, 4, 0))
    turned._metadata = state._metadata  # type: ignore[attr-defined]
    model = build_detector()
    load(tmp_path, {"state_dict": turned}, model)
    assert torch.equal(model.state_dict()[_CONV], state[_CONV])


def _without(state: Any, name: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key != name}


_PCDET = {"backbone_3d.conv_input.0.weight": torch.zeros(16, 3, 3, 3, 4)}
REFUSED: dict[str, tuple[Any, str]] = {
    "a tensor missing": (lambda s: _without(s, _CONV), rf"{_CONV} of shape \(16.*got none"),
    "another shape": (lambda s: {**s, _CONV: torch.ones(2, 3)}, r"\(16, 3, 3, 3, 4\).*\(2, 3\)"),
    "OpenPCDet": (lambda s: {"model_state": _PCDET, "version": "0.6"}, "OpenPCDet.*backbone_3d"),
    "Det3D": (lambda s: {"state_dict": {"reader.w": torch.ones(1)}}, "Det3D"),
    "a deeper backbone": (
        lambda s: {**s, "backbone.blocks.9.0.weight": torch.ones(2, 2)},
        "backbone.blocks.9.0.weight.*has not",
    ),
    "diverged": (lambda s: {**s, _CONV: s[_CONV] * torch.nan}, "NaN in middle_encoder"),
    "an optimizer alone": (lambda s: {"optimizer": {"state": {}}}, "tensors of a model.*optimizer"),
    "a list": (lambda s: [1, 2], "tensors of a model.*a list"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_checkpoint_of_another_model_is_refused_by_name(kind: str, state: Any, tmp_path: Path):
    change, message = REFUSED[kind]
    with pytest.raises(ValueError, match=message):
        load(tmp_path, change(dict(state)), build_detector())


def test_a_detector_loads_without_its_refinement_head_where_none_refines(
    state: Any, tmp_path: Path
):
    from mmdet3d.registry import MODELS

    model = MODELS.build(config("ebm_second_kitti_cpu.py").model)
    load(tmp_path, dict(state), model, refine=False)
    assert torch.equal(
        model.bbox_head.dense_head.conv_reg.weight, state["bbox_head.conv_reg.weight"]
    )
    detector = build_detector()
    load(tmp_path, model.state_dict(), detector)  # and a refined one into its detector
    assert torch.equal(detector.bbox_head.conv_reg.weight, state["bbox_head.conv_reg.weight"])
    with pytest.raises(ValueError, match=r"holds bbox_head\.refinement_head"):
        load(tmp_path, dict(state), model)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"PK\x03\x04 and no end", "a torn file"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        (b"<!DOCTYPE html>", "a web page"),
        ((64).to_bytes(8, "little") + b'{"a":{}}', "safetensors"),
        (b"junk!", "cannot be read"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_named(content: bytes, message: str, tmp_path: Path):
    from mmengine import Config

    from ebm3d.adapters.checkpoints import load_weights

    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.pth must be a file that training saved.*{message}"):
        load_weights(nn.Linear(1, 1), tmp_path / "a.pth", Config())


def test_code_is_refused_and_a_folder_names_its_newest_checkpoint(tmp_path: Path):
    from ebm3d.adapters.checkpoints import check_file

    with pytest.raises(ValueError, match=r"safe loading refuses.*state_dict alone"):
        load(tmp_path, {"state_dict": {}, "model": nn.Linear(1, 1)}, nn.Linear(1, 1))
    (tmp_path / "last_checkpoint").write_text("epoch_7.pth")
    with pytest.raises(FileNotFoundError, match="a folder without a whole one"):
        check_file(tmp_path)
    torch.save({}, tmp_path / "epoch_7.pth")
    with pytest.raises(FileNotFoundError, match=r"newest is .*epoch_7\.pth"):
        check_file(tmp_path)


_LAYER = "model__data_preprocessor__voxel_layer__"
_ANCHORS = "model__bbox_head__anchor_generator__"
_TEST = "test_dataloader__dataset__metainfo__classes"


@pytest.mark.parametrize(
    ("option", "value", "is_wrong"),
    [
        (_TEST, ["Pedestrian"], True),
        (_TEST, ["Car", "Cyclist"], True),
        (_TEST, ("Car",), None),
        (f"{_LAYER}voxel_size", [0.2, 0.2, 0.2], True),
        (f"{_LAYER}point_cloud_range", [0, -25.6, -2, 51.2, 25.6, 2], True),
        (f"{_LAYER}point_cloud_range", [0, -20, -3, 40, 20, 1], False),
        (f"{_LAYER}max_num_points", 9, None),
        (f"{_ANCHORS}sizes", [[1.6, 3.9, 1.56]], True),
        (f"{_ANCHORS}ranges", [[0, -25.6, -1, 51.2, 25.6, -1]], True),
        (f"{_ANCHORS}ranges", [[0, -20, -1.78, 40, 20, -1.78]], None),
        ("model__bbox_head__bbox_coder__type", "OtherCoder", True),
        ("model__bbox_head__loss_cls__type", "OtherLoss", None),
        ("model__test_cfg__score_thr", 0.5, None),
    ],
)
def test_a_config_is_compared_with_that_of_the_training(
    option: str, value: Any, is_wrong: bool | None, warnings: list[str], tmp_path: Path
):
    """Refused where the results would be wrong, said where they may be right, else silent."""
    meta = {"dataset_meta": {"classes": ("Car",)}, "cfg": _shipped("second_kitti_cpu.py")[1]}
    model = nn.Linear(2, 2)
    content, cfg = {"state_dict": model.state_dict(), "meta": meta}, config(**{option: value})
    if is_wrong:
        with pytest.raises(ValueError, match=option.replace("__", r"\.")):
            load(tmp_path, content, model, cfg)
    else:
        load(tmp_path, content, model, cfg)
    assert len(warnings) == (is_wrong is False)


def test_the_order_of_classes_counts_and_unknown_classes_are_said(
    warnings: list[str], tmp_path: Path
):
    model, names = nn.Linear(2, 2), ["Pedestrian", "Cyclist", "Car"]
    content: dict[str, Any] = {"state_dict": model.state_dict(), "meta": {"CLASSES": names}}
    load(tmp_path, content, model, config(**{_TEST: names}))
    with pytest.raises(ValueError, match=r"metainfo\.classes=\['Pedestrian','Cyclist','Car'\]"):
        load(tmp_path, content, model, config(**{_TEST: names[::-1]}))
    assert not warnings
    load(tmp_path, model.state_dict(), model, config())
    assert "['Car']" in warnings[0]


def test_the_text_of_a_config_is_not_executed(tmp_path: Path):
    from ebm3d.adapters.checkpoints.provenance import differences

    text = f"model = dict(a=open({str(tmp_path / 'made')!r}, 'w'), backbone=dict(grid=(1, 2)))"
    cfg = config(**{"model__backbone__grid": [2, 1]})
    found = list(differences({"cfg": text}, cfg, "test_dataloader", ""))
    assert [(item.trained, item.now) for item in found] == [([1, 2], [2, 1])]
    assert not (tmp_path / "made").exists()


class _Model(nn.Module):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.backbone = nn.Linear(width, 2)
        self.bbox_head = nn.ModuleDict(
            {"conv": nn.Linear(2, 2), "refinement_head": nn.Linear(2, 1)}
        )


def checked(content: Any, mode: str, *, is_frozen: bool = False) -> _Model:
    """The model after the runner has read a checkpoint to start from or to resume."""
    from mmengine import Config
    from mmengine.runner import BaseLoop

    from ebm3d.adapters.checkpoints import check_loading

    model = _Model()
    loop = type("Loop", (BaseLoop,), {"run": lambda self: None, "__init__": lambda self: None})()
    optimizer = torch.optim.AdamW(model.parameters())
    runner = SimpleNamespace(
        model=model, cfg=Config(), work_dir=".", _load_from="a.pth", _resume=mode == "resume",
        _train_loop=loop, optim_wrapper=SimpleNamespace(optimizer=optimizer),
    )  # fmt: skip
    check_loading(runner, content, is_frozen=is_frozen)
    return model


def _detector(width: int = 3) -> dict[str, Tensor]:
    return {k: v for k, v in _Model(width).state_dict().items() if "refinement_head" not in k}


def test_a_frozen_detector_must_be_there_as_a_whole(warnings: list[str]):
    """All of it, and nothing of the head that is trained."""
    state = _detector()
    model = checked({"state_dict": dict(state)}, "start", is_frozen=True)
    assert torch.equal(model.backbone.weight, state["backbone.weight"])
    for name in state:
        with pytest.raises(ValueError, match=name):
            checked({"state_dict": _without(state, name)}, "start", is_frozen=True)
    with pytest.raises(ValueError, match=r"backbone\.weight of shape \(2, 3\), but got \(2, 5\)"):
        checked({"state_dict": _detector(5)}, "start", is_frozen=True)
    assert not warnings


def test_a_whole_detector_may_start_from_a_part_but_not_from_nothing(warnings: list[str]):
    checked({"state_dict": _detector()}, "start")
    assert not warnings
    model = checked({"state_dict": _detector(5)}, "start")
    assert model.backbone.weight.shape == (2, 3)
    assert "backbone.weight (2, 3), of shape (2, 5)" in warnings[0]
    with pytest.raises(ValueError, match=r"a\.pth must be one that holds backbone\.weight"):
        checked({"state_dict": {"encoder.weight": torch.ones(2)}}, "start")


def saved(width: int = 3, optimizer: type = torch.optim.AdamW) -> dict[str, Any]:
    """What training saves after a step."""
    model = _Model(width)
    steps = optimizer(
        model.parameters(), lr=0.1, **({"momentum": 0.9} if optimizer is torch.optim.SGD else {})
    )
    sum(p.sum() for p in model.parameters()).backward()
    steps.step()
    progress = {"meta": {"epoch": 1, "iter": 2}, "message_hub": {}, "optimizer": steps.state_dict()}
    return {"state_dict": model.state_dict(), **progress}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("optimizer"), "without.*optimizer.*load_from=a.pth"),
        (lambda c: c["meta"].pop("epoch"), "without the epoch"),
        (lambda c: c["state_dict"].pop("bbox_head.refinement_head.bias"), "refinement_head.bias"),
        (lambda c: c.update(saved(5)), r"backbone\.weight.*\(2, 5\)"),
        (lambda c: c.update(optimizer=saved(5)["optimizer"]), "exp_avg of shape"),
        (lambda c: c["optimizer"]["param_groups"][0]["params"].pop(), "parameters a group"),
        (lambda c: c.update(optimizer=saved(optimizer=torch.optim.SGD)["optimizer"]), "AdamW"),
    ],
)
def test_a_training_resumes_from_its_own_checkpoint_alone(change: Any, message: str):
    content = saved()
    checked(deepcopy(content), "resume")
    change(content)
    with pytest.raises(ValueError, match=message):
        checked(content, "resume")

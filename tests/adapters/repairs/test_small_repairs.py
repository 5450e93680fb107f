"""numpy's names, kept kernels, pictures without a screen, process groups without CUDA."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
import pytest
import torch

pytestmark = [pytest.mark.mmdet3d, pytest.mark.usefixtures("registered")]


def test_repairs_are_idempotent_and_those_for_a_cpu_leave_cuda_alone(monkeypatch):
    from mmengine import Config
    from spconv.pytorch import ops

    from ebm3d.adapters import repairs

    first = repairs.repair_host()
    stream, methods = ops.get_current_stream, dict(vars(ops.SpconvOps))
    assert repairs.repair_host() == first
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not repairs.repair_spconv_stream.__wrapped__()
    assert (ops.get_current_stream, dict(vars(ops.SpconvOps))) == (stream, methods)
    cfg = Config({"launcher": "pytorch"})
    repairs.prepare_distributed_on_cpu(cfg)
    assert cfg.to_dict() == {"launcher": "pytorch"}


def test_the_object_sampler_knows_long_and_numpy_stays():
    from mmdet3d.datasets.transforms import dbsampler

    assert np.array([1], dtype=dbsampler.np.long).dtype == np.int64
    assert dbsampler.np.stack is np.stack


def test_compiled_kernels_of_the_host_are_kept():
    """Another dispatcher of the same kernel, as in another process, loads instead of compiling."""
    from mmdet3d.structures.ops import box_np_ops

    kernel = box_np_ops.corner_to_surfaces_3d_jit
    again = numba.njit(kernel.py_func)
    again.enable_caching()
    for dispatcher in (kernel, again):
        dispatcher(np.zeros((1, 8, 3)))
    assert sum(again.stats.cache_hits.values()) == 1


@pytest.fixture
def visualizer() -> Any:
    """The host's visualizer, repaired, with a window that was never opened."""
    from mmdet3d.visualization import Det3DLocalVisualizer

    visualizer = Det3DLocalVisualizer(name="test")
    visualizer.o3d_vis = SimpleNamespace(poll_events=lambda: True, update_renderer=lambda: None)
    return visualizer


def test_an_absent_picture_is_not_recorded(visualizer):
    """A LiDAR frame has none; the host hands it on to the backend, which reads its type."""
    types: list[np.dtype] = []
    backend = SimpleNamespace(add_image=lambda name, image, step: types.append(image.dtype))
    visualizer._vis_backends = {"local": backend}
    visualizer.add_image("frame", None, 0)
    visualizer.add_image("frame", np.zeros((2, 2, 3), dtype=np.uint8), 0)
    assert types == [np.uint8]
    with pytest.raises(AttributeError, match="dtype"):
        type(visualizer).add_image.__wrapped__(visualizer, "frame", None, 0)


def test_show_without_a_window_returns(visualizer):
    """The host's method reads the camera of that window."""
    assert visualizer.show() is None
    with pytest.raises(AttributeError, match="view_control"):
        type(visualizer).show.__wrapped__(visualizer)


@pytest.mark.parametrize("repaired", [True, False])
def test_the_folder_of_pictures_nests_only_without_the_repair(
    visualizer, tmp_path, monkeypatch, repaired
):
    """Two batches, relative paths as in the tools."""
    from mmdet3d.engine.hooks import Det3DVisualizationHook

    monkeypatch.chdir(tmp_path)
    hook = Det3DVisualizationHook.__new__(Det3DVisualizationHook)
    hook.draw, hook.test_out_dir, hook._test_index = True, "pictures", 0
    method = Det3DVisualizationHook.after_test_iter
    runner = SimpleNamespace(work_dir="work", timestamp="now")
    for batch in range(2):
        (method if repaired else method.__wrapped__)(hook, runner, batch, {}, [])
    assert len(list(tmp_path.rglob("pictures"))) == (1 if repaired else 2)

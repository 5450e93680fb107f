"""numpy's names, kept kernels, pictures without a screen, process groups without CUDA."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
import pytest
import torch

from tests.oracles.subprocesses import run_python

pytestmark = pytest.mark.mmdet3d


def test_every_repair_is_idempotent() -> None:
    """A second call changes nothing and says the same."""
    from ebm3d.adapters.repairs import repair_host

    assert repair_host() == repair_host()


def test_the_object_sampler_finds_long() -> None:
    """The name is there for the sampler, and numpy itself is as it was."""
    from mmdet3d.datasets.transforms import dbsampler

    from ebm3d.adapters.repairs import repair_numpy_aliases

    repair_numpy_aliases()
    assert np.array([1], dtype=dbsampler.np.long).dtype == np.int64
    assert dbsampler.np.stack is np.stack


def test_compiled_kernels_of_the_host_are_kept() -> None:
    """Another dispatcher of the same kernel, as in another process, loads instead of compiling."""
    from mmdet3d.structures.ops import box_np_ops

    from ebm3d.adapters.repairs import repair_numba_caching

    repair_numba_caching()
    kernel = box_np_ops.corner_to_surfaces_3d_jit
    again = numba.njit(kernel.py_func)
    again.enable_caching()
    for dispatcher in (kernel, again):
        dispatcher(np.zeros((1, 8, 3)))
    assert sum(again.stats.cache_hits.values()) == 1


def test_without_the_repairs_there_is_neither_long_nor_a_kept_kernel() -> None:
    """The defects, in a process without repairs; numpy 2 has the name again."""
    script = """
    import ebm3d.adapters  # operators, no repairs
    from mmdet3d.datasets.transforms import dbsampler
    from mmdet3d.structures.ops import box_np_ops
    print("long" in vars(dbsampler.np), box_np_ops.corner_to_surfaces_3d_jit.stats.cache_path)
    """
    assert run_python(script) == f"{'long' in vars(np)} None"


@pytest.fixture
def visualizer() -> Any:
    """The host's visualizer, repaired, without a window."""
    from mmdet3d.visualization import Det3DLocalVisualizer

    from ebm3d.adapters.repairs import repair_visualization_hook

    repair_visualization_hook()
    return Det3DLocalVisualizer(name="test")


def test_an_absent_picture_is_not_recorded(visualizer: Any) -> None:
    """A LiDAR frame has no picture; stock code fails on ``None.dtype`` in the backend."""
    recorded: list[np.ndarray] = []
    visualizer._vis_backends = {
        "local": SimpleNamespace(add_image=lambda name, image, step: recorded.append(image))
    }
    visualizer.add_image("frame", None, 0)
    visualizer.add_image("frame", np.zeros((2, 2, 3), dtype=np.uint8), 0)
    assert len(recorded) == 1


def test_without_the_repair_an_absent_picture_is_an_error(visualizer: Any) -> None:
    """The defect: the backend reads the type of ``None``."""
    visualizer._vis_backends = {
        "local": SimpleNamespace(add_image=lambda name, image, step: image.dtype)
    }
    with pytest.raises(AttributeError, match="dtype"):
        type(visualizer).add_image.__wrapped__(visualizer, "frame", None, 0)


def test_show_without_a_window_returns(visualizer: Any) -> None:
    """It says that there is no display."""
    visualizer.o3d_vis = SimpleNamespace(poll_events=lambda: True, update_renderer=lambda: None)
    assert visualizer.show() is None


def test_without_the_repair_show_reads_the_camera_of_no_window(visualizer: Any) -> None:
    """The defect."""
    visualizer.o3d_vis = SimpleNamespace(poll_events=lambda: True, update_renderer=lambda: None)
    with pytest.raises(AttributeError, match="view_control"):
        type(visualizer).show.__wrapped__(visualizer)


@pytest.mark.parametrize("repaired", [True, False])
def test_the_folder_of_pictures_nests_only_without_the_repair(
    visualizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repaired: bool
) -> None:
    """Two batches, relative paths as in the tools."""
    from mmdet3d.engine.hooks import Det3DVisualizationHook

    monkeypatch.chdir(tmp_path)
    hook = Det3DVisualizationHook.__new__(Det3DVisualizationHook)
    hook.draw, hook.test_out_dir, hook._test_index = True, "pictures", 0
    method = Det3DVisualizationHook.after_test_iter
    for batch in range(2):
        (method if repaired else method.__wrapped__)(
            hook, SimpleNamespace(work_dir="work", timestamp="now"), batch, {}, []
        )
    folders = len(list(tmp_path.rglob("pictures")))
    assert folders == (1 if repaired else 2)


def test_without_the_repair_a_process_group_asks_for_cuda() -> None:
    """The defect: the launcher chooses a CUDA device first. tests/adapters/engine has the cure."""
    if torch.cuda.is_available():
        pytest.skip("the defect needs a machine without CUDA")
    script = """
    import os
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1",
                      MASTER_ADDR="127.0.0.1", MASTER_PORT="29631")
    from mmengine.dist import init_dist
    try:
        init_dist("pytorch", backend="gloo")
    except Exception as error:
        print(type(error).__name__, error)
    """
    assert "cuda" in run_python(script).lower()


def test_repairs_for_machines_without_cuda_leave_others_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Launchers, the data-parallel wrapper and spconv's stream, as if CUDA were there."""
    from mmengine.dist import utils
    from mmengine.runner import Runner
    from spconv.pytorch import ops

    from ebm3d.adapters.repairs import repair_distributed_on_cpu, repair_spconv_stream

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    places = [(utils, "_init_dist_pytorch"), (utils, "_init_dist_slurm")]
    places += [(Runner, "wrap_model"), (ops, "get_current_stream")]
    for owner, name in places:
        monkeypatch.setattr(owner, name, f"the host's {name}")
    assert not repair_distributed_on_cpu()
    assert not repair_spconv_stream()
    assert [getattr(owner, name) for owner, name in places] == [
        f"the host's {n}" for _, n in places
    ]

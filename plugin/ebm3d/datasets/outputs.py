"""The outputs of a preparation: replaced all together, and never a file of other origin."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ebm3d.datasets.atomic import scratch_folder, write_atomically
from ebm3d.datasets.problems import DataError, Problem

# Tells outputs from files of other origin; unfinished runs write beside it.
_LIST_OF_OUTPUTS = ".prepared/outputs.txt"


@contextmanager
def replace_outputs(root: Path, outputs: Sequence[str]) -> Iterator[Path]:
    """Yield a folder to write the outputs to, then move them to their places below ``root``."""
    earlier = outputs_of(root)
    expected, got = "no such file, or one made by an earlier run", "one of other origin"
    remedy = "move it away, or choose another output folder"
    foreign = [name for name in outputs if os.path.lexists(root / name) and name not in earlier]
    if foreign:
        raise DataError(Problem(root / name, None, expected, got, remedy) for name in foreign)
    store = (root / _LIST_OF_OUTPUTS).parent
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remedy = "choose an output folder that can be written"
        problem = Problem(root, None, "a folder that can be written", str(error), remedy)
        raise DataError([problem]) from error
    with scratch_folder(store / "run-") as folder:
        yield folder
        write_atomically(root / _LIST_OF_OUTPUTS, "\n".join(sorted({*outputs, *earlier})).encode())
        # Infos go first and come last: they are absent while the rest is of two runs.
        for index, output in enumerate(outputs):
            (root / output).parent.mkdir(parents=True, exist_ok=True)
            if (root / output).exists():
                os.replace(root / output, folder / f"replaced-{index}")
        for output in reversed(outputs):
            os.replace(folder / output, root / output)


def outputs_of(root: Path) -> set[str]:
    """The outputs below ``root`` that earlier runs made."""
    path = root / _LIST_OF_OUTPUTS
    return set(path.read_text().splitlines()) if path.exists() else set()


def link_inputs(root: Path, out: Path, inputs: Sequence[str]) -> None:
    """Make links to the inputs in ``out``, so that a config needs no other folder."""
    for name in inputs:
        link, target = out / name, (root / name).resolve()
        if not target.exists() or (link.exists() and link.samefile(target)):
            continue
        if link.exists() and not link.is_symlink():
            expected = f"a link to {target}, or nothing"
            remedy = "move it away, or choose another output folder"
            raise DataError([Problem(link, None, expected, "other data", remedy)])
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(target, link.parent.resolve()))

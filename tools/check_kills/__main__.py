"""Kill commands at random moments, fill their disk, make it read-only: is what is there whole?

``python tools/check_kills --out work_dirs/kills`` kills commands of each kind fifty times, half of
them around writes, and runs each again. After a kill every file must be whole and outputs that
belong together of one run; the second run must end as an uninterrupted one: a resumed training with
the same parameters, bit for bit. A stopped check goes on where it was. The commands run in
processes forked from this one, which has imported what they need. Disks need the right to mount.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads do not survive a fork
sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from cases import CASES, EPOCHS, Case, Failure, make_inputs, run_well
from PIL import Image
from rich.console import Console
from rich.table import Table
from runs import Moment, mount, start

from ebm3d.adapters.engine import noise_fitting  # noqa: F401, for the forked
from ebm3d.datasets.atomic import UNFINISHED, write_atomically

_KINDS = tuple(dict.fromkeys(case.kind for case in CASES.values()))
_PAGE = 4096
_DISKS = {"full": ("No space left on device",), "read-only": ("Read-only", "cannot be written")}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing and print a table; 0 if everything was whole."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("work_dirs/kills"), help="%(default)s")
    parser.add_argument("--kills", type=int, default=50, help="of each kind (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=_KINDS, default=_KINDS, metavar="KIND")
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    check = Check(args.out.resolve())
    for kind in args.kinds:
        names = [n for n, case in CASES.items() if case.kind == kind for _ in range(case.weight)]
        for number in range(args.kills):
            name = names[number % len(names)]
            check.once(f"{kind} {args.seed} {number}", name, check.kill)
        for name in dict.fromkeys(names):
            for disk in _DISKS:
                check.once(f"{name}: {disk}", name, check.fail)
    return check.report()


class Check:
    """Runs in a folder, and what was found."""

    def __init__(self, out: Path) -> None:
        self.out, self.file = out, out / "results.json"
        self.results: dict[str, Any] = {}
        if self.file.exists():
            self.results = json.loads(self.file.read_text())
        self.inputs = make_inputs(out)
        self.references: dict[str, Reference] = {}
        self.console = Console(width=140, highlight=False)

    def once(self, key: str, name: str, look: Callable[..., tuple[str, str]]) -> None:
        """Make a check unless its result is known."""
        if key in self.results:
            return
        case, folder = CASES[name], Path(tempfile.mkdtemp(prefix="run-", dir=self.out))
        try:
            if name not in self.references:
                self.references[name] = Reference(case, self.inputs, self.out)
            moment, found = look(key, case, self.references[name], folder)
        except Failure as error:
            moment, found = "uninterrupted", str(error)
        self.results[key] = {"kind": case.kind, "case": name, "moment": moment, "found": found}
        write_atomically(self.file, (json.dumps(self.results, indent=1) + "\n").encode())
        self.console.print(f"{key}, {name}, {moment}: {found or 'whole'}", markup=False)
        if not found:
            shutil.rmtree(folder)

    def kill(self, key: str, case: Case, reference: Reference, folder: Path) -> tuple[str, str]:
        """Kill a run, look, run again, look."""
        shutil.copytree(reference.before, folder, symlinks=True, dirs_exist_ok=True)
        rng = random.Random(key)
        status = 0
        while status != -signal.SIGKILL:  # a run that ended before is followed by another
            moment = Moment(rng.uniform(0, reference.seconds))
            if rng.random() < 0.5:
                holds = rng.random() < 0.5
                late = 0.0 if holds else rng.uniform(0, 3e-3)
                moment = Moment(late, rng.randint(1, reference.writes), holds)
            status = start(case.command, folder, moment).status
        return str(moment), reference.problem(folder) or reference.rerun(folder)

    def fail(self, key: str, case: Case, reference: Reference, folder: Path) -> tuple[str, str]:
        """Run on a disk that is full or read-only, look, run with room, look."""
        disk = key.rpartition(" ")[2]
        first, last = reference.sizes
        room = int(random.Random(key).uniform(0.0, 0.6) * (last - first))
        try:
            mount(folder, f"size={8 * last + (1 << 20)}")
        except (OSError, subprocess.CalledProcessError):
            return f"{disk}: mounting is not allowed", ""
        try:
            shutil.copytree(reference.before, folder, symlinks=True, dirs_exist_ok=True)
            if disk == "full":
                filler = bytes(max(_PAGE, shutil.disk_usage(folder).free - room))
                with suppress(OSError):  # a file system that needs some pages for itself
                    (folder / "filler").write_bytes(filler)
            else:
                mount(folder, "remount,ro")
            done = start(case.command, folder)
            found = reference.problem(folder)
            if done.status <= 0 or not any(words in done.said for words in _DISKS[disk]):
                found = f"status {done.status}, and no word about the disk: {done.said[-500:]}"
            mount(folder, f"remount,rw,size={16 * last + (2 << 20)}")
            return disk, found or reference.rerun(folder)
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)

    def report(self) -> int:
        """Print what was done by case; 1 if anything was not whole."""
        table = Table("kind", "case", "kills", "of them at writes", "disks", "not whole")
        groups: dict[tuple[str, str], list[dict[str, str]]] = {}
        for result in self.results.values():
            groups.setdefault((result["kind"], result["case"]), []).append(result)
        for names, results in groups.items():
            disks = [result for result in results if result["moment"] in _DISKS]
            writes = [result for result in results if result["moment"].startswith("write")]
            kills = [*writes, *(result for result in results if result["moment"][0].isdigit())]
            bad = [result for result in results if result["found"]]
            table.add_row(*names, *(str(len(part)) for part in (kills, writes, disks, bad)))
        self.console.print(table)
        return int(any(result["found"] for result in self.results.values()))


class Reference:
    """A folder before and after an uninterrupted run of a case."""

    def __init__(self, case: Case, inputs: Path, out: Path) -> None:
        self.case = case
        self.before = Path(tempfile.mkdtemp(prefix="before-", dir=out))
        after = Path(tempfile.mkdtemp(prefix="after-", dir=out))
        for item in inputs.iterdir():
            (self.before / item.name).symlink_to(item)
        if case.before:
            run_well(case.before, self.before)
        shutil.copytree(self.before, after, symlinks=True, dirs_exist_ok=True)
        self.seconds, self.writes = run_well(case.command, after)
        self.sizes = [_size(folder) for folder in (self.before, after)]
        self.states = [self._state(folder) for folder in (self.before, after)]
        self.checkpoints = {file.name: _parameters(file) for file in _checkpoints(after)}
        if case.kind == "training":
            for epoch in range(1, EPOCHS):
                name = f"epoch_{epoch}.pth"
                self.checkpoints[name] = _parameters(inputs / "trained" / name)
        self.last = sorted(file.name for file in _checkpoints(after))

    def problem(self, folder: Path, finished: bool = False) -> str:
        """What is not whole in a folder; "" if all is."""
        for file in folder.rglob("*"):
            name = str(file.relative_to(folder))
            if ".partial-" in name or ".prepared/run-" in name:
                if finished:
                    return f"{name} is left over"
                continue
            try:
                _read(file)
            except Exception as error:
                return f"{name} is not whole: {error!r}"
        found = _checkpoints(folder)
        if finished and sorted(file.name for file in found) != self.last:
            return f"checkpoints are {[file.name for file in found]}, but should be {self.last}"
        for file in found:
            if not _equal(_parameters(file), self.checkpoints[file.name]):
                return f"{file.name} has other parameters"
        if not finished and any(folder.glob(f"out/**/{UNFINISHED}")):
            return ""  # which nothing reads
        for unit, digests in self._state(folder).items():
            known = [state[unit] for state in self.states[int(finished) :]]
            if not any(_matches(digests, k, self.case.may_lack and not finished) for k in known):
                return f"{', '.join(unit)} are of neither run"
        return ""

    def rerun(self, folder: Path) -> str:
        """Run the command again; what is wrong then."""
        done = start(self.case.command, folder)
        is_there = "must be a new or empty folder" in done.said  # killed after it was complete
        if done.status and not is_there:
            return f"the next run ended with {done.status}: {done.said}"
        return self.problem(folder, finished=True)

    def _state(self, folder: Path) -> dict[tuple[str, ...], list[str]]:
        """A digest of each output of each unit."""
        return {tuple(unit): [_digest(folder / name) for name in unit] for unit in self.case.units}


def _size(folder: Path) -> int:
    """Bytes that the files of a folder take, in pages."""
    files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    return sum(_PAGE * -(-file.stat().st_size // _PAGE) for file in files)


def _matches(digests: Sequence[str], known: Sequence[str], may_lack: bool) -> bool:
    """Whether outputs are the known ones; with ``may_lack`` some may be absent."""
    pairs = zip(digests, known, strict=True)
    return all(found == wanted or (may_lack and not found) for found, wanted in pairs)


def _digest(path: Path) -> str:
    """Of a file, or of all files of a folder with their names; "" of nothing."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    content = hashlib.sha256()
    for file in files:
        if file.is_file() and ".prepared" not in file.parts:
            content.update(f"{file.relative_to(path)} {file.stat().st_size} ".encode())
            content.update(file.read_bytes())
    return content.hexdigest() if path.exists() else ""


def _checkpoints(folder: Path) -> list[Path]:
    """Checkpoints under their final names."""
    return sorted(f for f in (folder / "out").glob("*.pth") if not f.name.startswith("."))


def _parameters(file: Path) -> dict[str, torch.Tensor]:
    """What a checkpoint holds of the model."""
    return torch.load(file, map_location="cpu")["state_dict"]


def _equal(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether parameters are the same, bit for bit."""
    same = (torch.equal(first[name], second[name]) for name in first if name in second)
    return first.keys() == second.keys() and all(same)


def _read(file: Path) -> None:
    """Read a file as what its suffix says; raise if it is not whole."""
    if not file.is_file():
        return
    if file.suffix == ".pth":
        torch.load(file, map_location="cpu")
    elif file.suffix == ".pkl":
        pickle.loads(file.read_bytes())
    elif file.suffix == ".json":
        lines = "vis_data" in file.parts
        for text in file.read_text().splitlines() if lines else [file.read_text()]:
            json.loads(text)
    elif file.suffix == ".bin" and file.stat().st_size % 16:
        raise ValueError("a part of a point")
    elif file.suffix == ".png":
        Image.open(file).load()
    elif file.suffix == ".py":
        compile(file.read_text() or "(", str(file), "exec")


if __name__ == "__main__":
    sys.exit(main())

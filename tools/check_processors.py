"""Run the tests as other processors would: instruction sets, threads, order, load.

``python tools/check_processors.py`` runs all rounds, one after the other, and prints a table. Green
rounds are not repeated by a second call with the same ``--out``. Arguments after ``--`` go to
pytest: ``tools/check_processors.py --rounds avx2 -- tests/refiners``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table

_ROOT = Path(__file__).resolve().parents[1]
_BURNER = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(10**6))"


class Round(NamedTuple):
    """Environment of a round; the flag of /proc/cpuinfo that it needs; arguments of pytest."""

    says: str
    environment: Mapping[str, str] = {}
    needs: str = ""
    arguments: Sequence[str] = ()
    is_loaded: bool = False


def _instructions(torch: str, mkl: str, onednn: str, openblas: str) -> dict[str, str]:
    """What torch, MKL, oneDNN and numpy's OpenBLAS are told to use."""
    return {
        "ATEN_CPU_CAPABILITY": torch,
        "MKL_CBWR": mkl,
        "ONEDNN_MAX_CPU_ISA": onednn,
        "OPENBLAS_CORETYPE": openblas,
    }


def _threads(number: int) -> dict[str, str]:
    """Threads of torch and numba."""
    return {"OMP_NUM_THREADS": str(number), "NUMBA_NUM_THREADS": str(number)}


def make_rounds(out: Path, seed: int) -> dict[str, Round]:
    """All rounds by name; numba's kernels for another processor are cached in ``out``."""
    numba = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    numba["NUMBA_CACHE_DIR"] = str(out / "numba_generic")
    default = _instructions("default", "COMPATIBLE", "SSE41", "Nehalem")
    avx2 = _instructions("avx2", "AVX2", "AVX2", "Haswell")
    avx512 = _instructions("avx512", "AVX512", "AVX512_CORE", "SkylakeX")
    order = ("--random-order", str(seed))
    return {
        "native": Round("this processor as it is"),
        "default": Round("torch, MKL, oneDNN, OpenBLAS without AVX", default),
        "avx2": Round("the same with AVX2", avx2, needs="avx2"),
        "avx512": Round("the same with AVX-512", avx512, needs="avx512f"),
        "generic": Round("numba for any processor of this architecture", numba),
        "one-thread": Round("torch and numba with one thread", _threads(1)),
        "two-threads": Round("torch and numba with two threads", _threads(2)),
        "random-order": Round(f"files and tests shuffled, seed {seed}", arguments=order),
        "loaded": Round("twice as many busy processes as cores beside it", is_loaded=True),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rounds that are not green yet; 0 if all are green then."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    split = arguments.index("--") if "--" in arguments else len(arguments)
    own, rest = arguments[:split], list(arguments[split + 1 :])
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = list(make_rounds(Path(), 0))
    parser.add_argument("--rounds", nargs="+", choices=names, default=names, metavar="ROUND")
    parser.add_argument("--out", type=Path, default=Path("work_dirs/processors"))
    parser.add_argument("--seed", type=int, default=0, help="of the random order")
    parser.add_argument("--processes", type=int, default=2, help="of pytest (%(default)s)")
    parser.add_argument("--fresh", action="store_true", help="repeat green rounds, too")
    options = parser.parse_args(own)
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if options.processes > 1:
        rest += ["--numprocesses", str(options.processes), "--dist", "loadfile"]
    rounds = make_rounds(out, options.seed)
    results = {}
    console = Console(width=140, highlight=False)
    for name in options.rounds:
        file = out / f"{name}.json"
        before = json.loads(file.read_text()) if file.exists() and not options.fresh else {}
        if before.get("is_green") and before["arguments"] == rest:
            results[name] = before
            continue
        console.print(f"{name}: {rounds[name].says}; output in {out / name}.log")
        results[name] = {**run(name, rounds[name], rest, out), "arguments": rest}
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(results[name], indent=1) + "\n")
        partial.replace(file)
    console.print(_table(results, rounds))
    for name, result in results.items():
        for test in result["red"]:
            console.print(f"{name}: {test}", markup=False)
    return int(not all(result["is_green"] for result in results.values()))


def run(name: str, settings: Round, arguments: Sequence[str], out: Path) -> dict[str, Any]:
    """Run one round; counts, names of red tests, seconds."""
    if settings.needs and settings.needs not in _processor_flags():
        return {"is_green": True, "red": [], "note": f"no {settings.needs} here: not run"}
    report, started = out / f"{name}.xml", time.monotonic()
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={report}"]
    command += [*settings.arguments, *arguments]
    with (out / f"{name}.log").open("w") as log, _busy(settings.is_loaded):
        environment = {**os.environ, **settings.environment}
        status = subprocess.run(
            command, cwd=_ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False
        ).returncode
    result = {"is_green": status == 0, "red": [], "seconds": round(time.monotonic() - started)}
    if report.exists():
        cases = list(ElementTree.parse(report).iter("testcase"))
        red = [c for c in cases if c.find("failure") is not None or c.find("error") is not None]
        result["red"] = [f"{case.get('classname')}::{case.get('name')}" for case in red]
        result["tests"] = len(cases)
        result["skipped"] = sum(case.find("skipped") is not None for case in cases)
    return {**result, "note": "" if status in (0, 1) else f"pytest ended with {status}"}


@contextmanager
def _busy(is_loaded: bool) -> Iterator[None]:
    """Keep all cores busy meanwhile."""
    number = 2 * len(os.sched_getaffinity(0)) if is_loaded else 0
    burners = [subprocess.Popen([sys.executable, "-c", _BURNER]) for _ in range(number)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def _processor_flags() -> set[str]:
    """Instruction sets of this processor."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    return {word for line in lines if line.startswith("flags") for word in line.split()}


def _table(results: Mapping[str, Mapping[str, Any]], rounds: Mapping[str, Round]) -> Table:
    """One row a round."""
    table = Table(title=f"{platform.machine()}, {os.cpu_count()} cores", title_justify="left")
    for column in ("round", "what it is", "tests", "skipped", "red", "seconds", ""):
        table.add_column(column)
    for name, result in results.items():
        color = "green" if result["is_green"] else "red"
        counts = [str(result.get(key, "-")) for key in ("tests", "skipped")]
        counts += [str(len(result["red"])), str(result.get("seconds", "-"))]
        table.add_row(f"[{color}]{name}[/]", rounds[name].says, *counts, result["note"])
    return table


if __name__ == "__main__":
    sys.exit(main())

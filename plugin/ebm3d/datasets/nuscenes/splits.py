"""Splits of scenes: the official ones, and those of a file ``{"sim_val": ["sim-0001"], ...}``."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ebm3d.datasets.problems import DataError, Problem, unreadable
from ebm3d.errors import input_error

SPLITS_FILE = "splits.json"  # beside the tables, as the devkit has it
# Numbers of scenes: 61 is scene-0061.
_TRAIN_DETECT = """
    1-2 41-76 161-168 170-176 190-196 199-200 202-204 206-214 254-264 283-306 315-318 321 323-324
    347-375 382 420-439 457-459 461-465 467-469 471-472 474-480 566 568 570-578 580 582-583 665-679
    681 683-689 739-741 744 746-747 749-752 757-765 767-769 868-873 875-878 880 882-903 945 947 949
    952-953 955-961 975-984 988-991 1011-1025 1074-1102 1104-1105"""
_TRAIN_TRACK = """
    4-11 19-34 120-135 138-139 149-152 154-155 157-160 177-185 187-188 218-220 222 224-253 328
    376-381 383-386 388-403 405-408 410-419 440-456 499-502 504-515 517-518 525-539 541-546 584-600
    639-664 695-698 700-701 703-719 726-728 730-731 733-738 786-787 789-792 803-806 808-813 815-817
    819-822 847-856 858 860-866 992 994-1010 1044-1058 1106-1110"""
_VAL = """
    3 12-18 35-36 38-39 92-110 221 268-278 329-332 344-346 519-524 552-565 625-627 629-630 632-638
    770-771 775 777-778 780-784 794-800 802 904-917 919-931 962-963 966-969 971-972 1059-1073"""
_TEST = """
    77-91 111-119 140 142-148 265-266 279-282 307-314 333-343 481-498 547-551 601-604 606-624
    827-831 833-842 844-846 932-933 935-943 1026-1043"""
_NUMBERS = {
    "train": f"{_TRAIN_DETECT} {_TRAIN_TRACK}",
    "val": _VAL,
    "test": _TEST,
    "mini_train": "61 553 655 757 796 1077 1094 1100",
    "mini_val": "103 916",
    "train_detect": _TRAIN_DETECT,
    "train_track": _TRAIN_TRACK,
}


def _names(numbers: str) -> tuple[str, ...]:
    """Names of scenes from their numbers."""
    ends = [[int(end) for end in word.split("-")] for word in numbers.split()]
    found = [number for end in ends for number in range(end[0], end[-1] + 1)]
    return tuple(f"scene-{number:04d}" for number in sorted(found))


OFFICIAL_SPLITS: Mapping[str, tuple[str, ...]] = {s: _names(n) for s, n in _NUMBERS.items()}
_PREPARED = {
    "v1.0-trainval": ("train", "val"),
    "v1.0-test": ("test",),
    "v1.0-mini": ("mini_train", "mini_val"),
}
_KINDS = ("train", "val", "test")


def scenes_of_split(split: str, root: str | Path, version: str) -> tuple[str, ...]:
    """Names of the scenes of a split, an official one or one of ``ROOT/VERSION/splits.json``.

    Raises:
        ValueError: if there is no such split.
        DataError: if the file is damaged.
    """
    path = Path(root) / version / SPLITS_FILE
    splits = {**(_read(path) if path.is_file() else {}), **OFFICIAL_SPLITS}
    if split not in splits:
        remedy = f"choose one of these, or write it to {path}"
        raise input_error("split", f"one of {', '.join(sorted(splits))}", repr(split), remedy)
    return splits[split]


def splits_to_prepare(
    folder: Path, scenes: Collection[str], file: Path | None = None
) -> dict[str, tuple[str, ...]]:
    """Names of the scenes of each split that infos are written for, by its name.

    Of the file, if there is one; else the official ones of the version, if the tables hold one of
    their scenes; else those of ``splits.json`` beside the tables.

    Args:
        folder: of the tables, named as the version.
        scenes: names in the tables.
        file: of splits, whose names end with train, val or test.

    Raises:
        DataError: with every defect of the file: a scene that is not in the tables or in two
            splits, an empty split, two for one file of infos, or no file.
    """
    official = {split: OFFICIAL_SPLITS[split] for split in _PREPARED.get(folder.name, ())}
    held = {split: tuple(s for s in names if s in scenes) for split, names in official.items()}
    if file is None and any(held.values()):
        return {split: names for split, names in held.items() if names}
    path = folder / SPLITS_FILE if file is None else file
    if not path.is_file():
        expected = 'splits of the scenes: {"my_train": ["scene-0001", ...], "my_val": [...]}'
        got = "no such file"
        if file is None:
            got += f", and none of the tables' scenes in an official split of {folder.name}"
        raise DataError([Problem(path, None, expected, got, "write it, or give --splits FILE")])
    splits = _read(path)
    problems = [Problem(path, None, *defect) for defect in _defects(splits, scenes)]
    if problems:
        raise DataError(problems)
    return splits


def kind_of_split(split: str) -> str:
    """Which infos a split is for: "train", "val" or "test", the end of its name; or ""."""
    return next((kind for kind in _KINDS if split.endswith(kind)), "")


def _read(path: Path) -> dict[str, tuple[str, ...]]:
    """Splits of a file, by name."""
    expected = "a JSON object of lists of scene names, by split"
    remedy = 'write {"my_train": ["scene-0001", ...], "my_val": [...]}'
    try:
        content: Any = json.loads(path.read_text("utf-8-sig"), object_pairs_hook=_once)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError([unreadable(path, expected, error, remedy)]) from error
    lists = content.values() if isinstance(content, dict) else ()
    if not lists or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists
    ):
        raise DataError([Problem(path, None, expected, f"{str(content)[:60]!r}", remedy)])
    return {split: tuple(names) for split, names in content.items()}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; ValueError for a name that is there twice, of which one would be lost."""
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(name for name, _ in pairs if [n for n, _ in pairs].count(name) > 1)
        raise ValueError(f"{twice!r} twice")
    return content


def _defects(
    splits: Mapping[str, tuple[str, ...]], scenes: Collection[str]
) -> list[tuple[str, str, str]]:
    """What was expected of splits, what is there, and a remedy."""
    defects = []
    place: dict[str, str] = {}
    kinds: dict[str, str] = {}
    for split, names in splits.items():
        if not names:
            got, remedy = f"none in {split!r}", "name some, or take the split out"
            defects.append(("at least one scene", got, remedy))
        kind = kind_of_split(split)
        if not kind or kind in kinds:
            got = f"{split!r}" + (f" beside {kinds[kind]!r}" if kind else "")
            expected = "one split each whose name ends with train, val or test"
            defects.append((expected, got, "rename it, or take it out"))
        kinds[kind] = split
        unknown = [name for name in names if name not in scenes]
        if unknown:
            got = f"{len(unknown)} others in {split!r}: {', '.join(unknown[:5])}"
            more = ", ..." if len(scenes) > 5 else ""
            remedy = f"the tables have {len(scenes)}: {', '.join(sorted(scenes)[:5])}{more}"
            defects.append(("scenes of the tables", got, remedy))
        for name in names:
            if name in place:
                got = f"{name} in {place[name]!r} and again in {split!r}"
                defects.append(("every scene once", got, "keep it in one split"))
            place[name] = split
    return defects

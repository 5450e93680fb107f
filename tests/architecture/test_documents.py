"""What documents say is true: code runs, commands and files exist, cited equations are there."""

from __future__ import annotations

import contextlib
import io
import re
from itertools import pairwise
from pathlib import Path

import pytest

from tests.architecture.source_files import ROOT, package_files, short, text_files

_DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)")
_EQUATION = re.compile(r"\bM-\d+\b")
_MAX_README_LINES = 150
_README = (ROOT / "README.md").read_text()

documents = pytest.mark.parametrize("document", _DOCUMENTS, ids=short)


@documents
def test_python_blocks_run_and_print_what_the_text_says(document: Path) -> None:
    blocks = [*_BLOCK.findall(document.read_text()), ("", "")]
    for (language, code), (next_language, text) in pairwise(blocks):
        if language != "python" or code.startswith("# fragment"):
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, short(document), "exec"), {"__name__": "example"})
        assert printed.getvalue() == (text if next_language == "text" else "")


@documents
def test_links_and_commands_name_files_and_targets_that_exist(document: Path) -> None:
    text = document.read_text()
    targets = _LINK.findall(_BLOCK.sub("", text))
    assert not [target for target in targets if not (document.parent / target).exists()]
    blocks = "\n".join(code for language, code in _BLOCK.findall(text) if language == "bash")
    commands = blocks.replace("\\\n", " ")
    files = re.findall(r"\b((?:tools|configs|tests)/[\w/]+(?:\.(?:py|sh))?)", commands)
    assert not [file for file in files if not (ROOT / file).exists()]
    # A make target stands at the start of a line; what follows it on the line are targets too.
    targets = " ".join(re.findall(r"^make ([a-z ]+)", commands, re.MULTILINE)).split()
    makefile = (ROOT / "Makefile").read_text()
    assert not [target for target in targets if not re.search(rf"^{target}:", makefile, re.M)]


@pytest.mark.mmdet3d
@documents
def test_commands_name_checkpoints_that_their_trainings_write(document: Path) -> None:
    from mmengine import Config

    for name, epoch in set(re.findall(r"work_dirs/(\w+)/epoch_(\d+)\.pth", document.read_text())):
        shipped = [p for p in (ROOT / "configs").glob("*.py") if name.endswith(p.stem)]
        file = max(shipped, key=lambda path: len(path.stem))  # of a composed config its detector
        config = Config.fromfile(file, import_custom_modules=False)
        refines = name != file.stem and ("refinement" in name or name.startswith("ebm"))
        epochs = config.refinement_epochs if refines else config.train_cfg.max_epochs
        assert 1 <= int(epoch) <= epochs, f"work_dirs/{name}/epoch_{epoch}.pth"


def test_every_document_is_reached_from_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert not [page for page in sorted(pages) if f"]({page})" not in index]


def test_equations_and_documents_that_the_source_cites_exist() -> None:
    cited = {label for path in package_files() for label in _EQUATION.findall(path.read_text())}
    known = set(_EQUATION.findall((ROOT / "docs" / "method.md").read_text()))
    assert cited
    assert not cited - known
    sources = [path for path in text_files() if path.suffix == ".py"]
    named = {n for p in sources for n in re.findall(r"\bdocs/[\w/.-]+\.md\b", p.read_text())}
    assert not [name for name in named if not (ROOT / name).exists()]


def test_the_readme_is_short_and_names_the_pinned_versions_and_system_packages() -> None:
    assert len(_README.splitlines()) <= _MAX_README_LINES
    pins = (ROOT / "requirements" / "cpu.txt").read_text()
    for name in ("torch", "numpy", "mmcv-lite", "mmengine", "mmdet", "mmdet3d", "spconv", "open3d"):
        version = re.search(rf"^{name}==(\S+)$", pins, re.MULTILINE)
        assert version is not None, name
        assert f"| {version[1]} " in _README, f"{name} {version[1]}"
    setup = re.search(r'APT="(apt-get install [^"]+)"', (ROOT / "tools" / "setup.sh").read_text())
    readme = re.search(r"apt-get install .+", _README)
    assert setup is not None
    assert readme is not None
    assert set(readme[0].split()) == set(setup[1].split())

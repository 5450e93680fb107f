"""What documents say is true: code runs, commands and files exist, cited equations are there."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from tests.architecture.source_files import ROOT, package_files, short, tracked_text_files

_DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)")
_EQUATION = re.compile(r"\bM-\d+\b")
_MAX_README_LINES = 150

documents = pytest.mark.parametrize("document", _DOCUMENTS, ids=short)


def _blocks(document: Path, language: str) -> list[str]:
    """The code blocks of one language."""
    return [code for name, code in _BLOCK.findall(document.read_text()) if name == language]


def _commands(document: Path) -> str:
    """All shell blocks, continued lines joined."""
    return "\n".join(_blocks(document, "bash")).replace("\\\n", " ")


@documents
def test_python_blocks_run_and_print_what_the_text_says(document: Path):
    blocks = _BLOCK.findall(document.read_text())
    for index, (language, code) in enumerate(blocks):
        if language != "python" or code.startswith("# fragment"):
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, short(document), "exec"), {"__name__": "example"})
        following = blocks[index + 1] if index + 1 < len(blocks) else ("", "")
        if following[0] == "text":
            assert printed.getvalue() == following[1]
        else:
            assert printed.getvalue() == ""


@documents
def test_links_lead_somewhere(document: Path):
    targets = _LINK.findall(_BLOCK.sub("", document.read_text()))
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert not missing


@pytest.mark.mmdet3d
@documents
def test_commands_name_checkpoints_that_their_trainings_write(document: Path):
    from mmengine import Config

    for name, epoch in set(re.findall(r"work_dirs/(\w+)/epoch_(\d+)\.pth", document.read_text())):
        shipped = [p for p in (ROOT / "configs").glob("*.py") if name.endswith(p.stem)]
        file = max(shipped, key=lambda path: len(path.stem))  # of a composed config its detector
        config = Config.fromfile(file, import_custom_modules=False)
        refines = name != file.stem and ("refinement" in name or name.startswith("ebm"))
        epochs = config.refinement_epochs if refines else config.train_cfg.max_epochs
        assert 1 <= int(epoch) <= epochs, f"work_dirs/{name}/epoch_{epoch}.pth"


@documents
def test_commands_name_files_and_targets_that_exist(document: Path):
    commands = _commands(document)
    makefile = (ROOT / "Makefile").read_text()
    files = re.findall(r"\b((?:tools|configs|tests)/[\w/]+(?:\.(?:py|sh))?)", commands)
    # A make target stands at the start of a line; what follows it on the line are targets too.
    lines = re.findall(r"^make ([a-z ]+)", commands, re.MULTILINE)
    targets = [target for line in lines for target in line.split()]
    assert not [file for file in files if not (ROOT / file).exists()]
    assert not [target for target in targets if not re.search(rf"^{target}:", makefile, re.M)]


def test_every_document_is_reached_from_the_index():
    index = (ROOT / "docs" / "index.md").read_text()
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert not [page for page in sorted(pages) if f"]({page})" not in index]


def test_equations_that_docstrings_cite_are_in_the_method():
    method = (ROOT / "docs" / "method.md").read_text()
    cited = {label for path in package_files() for label in _EQUATION.findall(path.read_text())}
    known = set(_EQUATION.findall(method))
    assert cited
    assert cited <= known, f"not in docs/method.md: {sorted(cited - known)}"


def test_documents_that_docstrings_name_exist():
    named = {
        (short(path), name)
        for path in tracked_text_files()
        if path.suffix == ".py"
        for name in re.findall(r"\b(docs/[\w/.-]+\.md)\b", path.read_text())
    }
    assert not [(path, name) for path, name in sorted(named) if not (ROOT / name).exists()]


def test_the_readme_is_short_enough_to_be_read():
    assert len((ROOT / "README.md").read_text().splitlines()) <= _MAX_README_LINES


def test_the_readme_states_the_versions_that_are_pinned():
    readme = (ROOT / "README.md").read_text()
    pins = (ROOT / "requirements" / "cpu.txt").read_text()
    for name in ("torch", "numpy", "mmcv-lite", "mmengine", "mmdet", "mmdet3d", "spconv", "open3d"):
        version = re.search(rf"^{name}==(\S+)$", pins, re.MULTILINE)
        assert version is not None, name
        assert f"| {version[1]} " in readme, f"{name} {version[1]}"


def test_the_readme_and_the_setup_script_name_the_same_system_packages():
    setup = re.search(r'APT="(apt-get install [^"]+)"', (ROOT / "tools" / "setup.sh").read_text())
    readme = re.search(r"apt-get install .+", (ROOT / "README.md").read_text())
    assert setup is not None
    assert readme is not None
    assert set(readme[0].split()) == set(setup[1].split())

from __future__ import annotations

import pytest

pytest.importorskip("mmdet3d")

from ebm3d.adapters.demo import DemoSettings, open_folder, record_stage

pytestmark = pytest.mark.mmdet3d


def test_finished_stages_are_remembered(tmp_path):
    assert open_folder(tmp_path / "demo", DemoSettings()) == {}
    record_stage(tmp_path / "demo", {"simulate": 3.5})
    assert open_folder(tmp_path / "demo", DemoSettings()) == {"simulate": 3.5}


@pytest.mark.parametrize("change", [{"seed": 1}, {"num_train": 3}, {"cfg_options": (("a", 1),)}])
def test_other_settings_start_anew_and_empty_the_folder(tmp_path, change):
    open_folder(tmp_path, DemoSettings())
    record_stage(tmp_path, {"simulate": 3.5})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "old.txt").write_text("old")
    assert open_folder(tmp_path, DemoSettings(**change)) == {}
    assert not (tmp_path / "data").exists()


def test_fresh_starts_anew(tmp_path):
    open_folder(tmp_path, DemoSettings())
    record_stage(tmp_path, {"simulate": 3.5})
    assert open_folder(tmp_path, DemoSettings(), fresh=True) == {}


def test_another_starting_checkpoint_starts_anew(tmp_path):
    checkpoint = tmp_path / "a.pth"
    checkpoint.write_bytes(b"one")
    settings = DemoSettings(detector=str(checkpoint))
    open_folder(tmp_path / "demo", settings)
    record_stage(tmp_path / "demo", {"simulate": 3.5})
    checkpoint.write_bytes(b"two")
    assert open_folder(tmp_path / "demo", settings) == {}


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    open_folder(tmp_path, DemoSettings(), fresh=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_state_file_that_was_cut_off_starts_anew(tmp_path):
    open_folder(tmp_path, DemoSettings())
    (tmp_path / "stages.json").write_text('{"fingerprint": "ab')
    assert open_folder(tmp_path, DemoSettings()) == {}


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "frame.bin").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"out must be a new or empty folder.*data of something"):
        open_folder(tmp_path, DemoSettings(), fresh=True)
    assert (tmp_path / "data" / "frame.bin").read_bytes() == b"mine"

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from tiny import HOSPITIUM

FIXED = (
    *("file", "status", "reason", "notes", "shape", "dtype", "spacing_mm"),
    *("photometric_in", "sha256_pixels"),
)


@pytest.fixture
def pictures(tmp_path):
    """Write this many unlike pictures, and a file that is none, into a folder."""

    def pictures(count):
        folder = tmp_path / "pictures"
        folder.mkdir(exist_ok=True)
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 256, (6, 8), np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:04}.png")
        (folder / "broken").write_bytes(b"no image at all")
        return folder

    return pictures


def lines(said):
    return [json.loads(line) for line in said.out.splitlines()]


def test_a_scan_prints_one_object_a_file_and_a_summary_last(call, pictures):
    said = call("site", "data", "scan", pictures(3), "--workers", 0, "--json")
    *files, summary = lines(said)
    assert said.status == 0 and said.err == ""
    assert [row["file"] for row in files] == ["0000.png", "0001.png", "0002.png", "broken"]
    assert all(tuple(row) == FIXED for row in files)
    assert (files[0]["status"], files[0]["shape"], files[0]["dtype"]) == ("read", [6, 8], "float32")
    assert (files[3]["status"], files[3]["reason"]) == ("skipped", "not_dicom")
    assert summary["summary"] is True
    assert (summary["num_read"], summary["num_skipped"], summary["skipped"]) == (
        3,
        1,
        {"not_dicom": 1},
    )


def test_a_data_set_is_added_scanned_and_shown(call, pictures):
    folder = pictures(2)
    added = call("site", "data", "add", "xrays", folder, "--json").json
    assert (added["name"], added["is_scanned"]) == ("xrays", False)
    assert "2 of 3 files read" in call("site", "data", "scan", "xrays", "--workers", 0).out
    assert call("site", "data", "show", "--json").json[0]["num_read"] == 2
    shown = call("site", "data", "show", "xrays", "--reason", "not_dicom", "--json").json
    assert shown["skips"][0]["who"] == "engineer" and shown["skips"][0]["remedy"]
    assert [row["file"] for row in shown["files"]] == ["broken"]
    said = call("site", "data", "show", "xrays", "--reason", "not_dicom").out
    assert "who acts" in said and "broken" in said


def test_the_same_name_is_added_twice_only_for_the_same_files(call, pictures, tmp_path):
    folder = pictures(1)
    for _ in range(2):
        assert call("site", "data", "add", "xrays", folder).status == 0
    said = call("site", "data", "add", "xrays", tmp_path)
    assert said.status == 1 and "E301" in said.err and "other files" in said.err


def test_a_data_set_without_labels_says_so_and_one_with_them_shows_where(call, pictures, tmp_path):
    folder = pictures(2)
    assert "It has no labels" in call("site", "data", "add", "bare", folder).out
    (tmp_path / "truth.csv").write_text("file,label\n0000.png,a\n0001.png,b\n")
    added = call("site", "data", "add", "xrays", folder, "--labels", "truth.csv").out
    assert "no labels" not in added
    assert 'In a sites file: data = "xrays"' in call("site", "data", "scan", "xrays").out
    assert "truth.csv" in call("site", "data", "show", "xrays").out
    assert "sites file" not in call("site", "data", "scan", folder).out
    (folder / "labels.csv").write_text("file,label\n0000.png,a\n")
    assert "no labels" not in call("site", "data", "add", "more", folder).out


@pytest.mark.parametrize(
    "words",
    [
        ("add", "xrays", ".", "--labels", "."),
        ("scan", "nowhere"),
        ("show", "nowhere"),
        ("add", "xrays", "nowhere"),
        ("add", "../xrays", "."),
        ("add", "xrays", ".", "--labels", "nowhere.csv"),
        ("add", "xrays", ".", "--group-by", "name"),
        ("scan", ".", "--workers", "-1"),
    ],
)
def test_a_wrong_call_ends_with_2_and_nothing_is_written(call, tmp_path, words):
    said = call("site", "data", *words, "--json")
    assert said.status == 2 and said.json["code"] == "E002"
    assert not (tmp_path / "home").exists()


def test_a_data_set_that_was_not_scanned_says_so(call, pictures):
    call("site", "data", "add", "xrays", pictures(1))
    said = call("site", "data", "show", "xrays")
    assert said.status == 2 and "hospitium site data scan xrays" in said.err


def test_a_folder_without_files_fails(call, tmp_path):
    (tmp_path / "empty").mkdir()
    said = call("site", "data", "scan", "empty", "--workers", 0, "--json")
    assert said.status == 3 and lines(said)[-1]["num_files"] == 0


def test_files_that_all_are_bad_are_counted_and_fail_nothing(call, pictures):
    said = call("site", "data", "scan", pictures(0), "--workers", 0, "--json")
    assert said.status == 0 and lines(said)[-1]["skipped"] == {"not_dicom": 1}


def test_two_scans_at_once_are_refused(call, pictures, tmp_path):
    from hospitium.state.home import locked

    call("site", "data", "add", "xrays", pictures(1))
    with locked(tmp_path / "home" / "site" / "data" / "xrays"):
        said = call("site", "data", "scan", "xrays", "--workers", 0)
    assert said.status == 1 and "another process is scanning it" in said.err


@pytest.mark.ci
@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX signal")
def test_a_scan_stopped_by_a_signal_goes_on_where_it_was(call, pictures, tmp_path):
    folder = pictures(700)
    words = [HOSPITIUM, "site", "data", "scan", folder, "--workers", "1", "--json"]
    run = subprocess.Popen(
        words, stdout=subprocess.PIPE, env=dict(os.environ), start_new_session=True
    )
    journal = None
    for _ in range(600):
        journal = next((tmp_path / "home").rglob("index.journal"), None)
        if journal is not None and journal.read_bytes().count(b"\n") > 100:
            break
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    out, _ = run.communicate(timeout=60)
    num_done = journal.read_bytes().count(b"\n")
    assert run.returncode == 130 and json.loads(out)["code"] == "E003" and 100 < num_done < 701
    *files, summary = lines(call("site", "data", "scan", folder, "--workers", 1, "--json"))
    assert len(files) == 701 and summary["num_read_again"] == 701 - num_done

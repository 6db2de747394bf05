import json
import os
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hospitium.errors import CorruptedError, DataError, StorageError
from hospitium.imaging import scanning
from hospitium.imaging.decode_pool import GaveUp, answers
from hospitium.imaging.identity import SiteKey
from hospitium.imaging.instance import Facts, Uids
from hospitium.imaging.reading import pixel_sha256, read_dicom
from hospitium.imaging.scan_index import PUBLISHED, Record, resolved
from hospitium.imaging.scan_walk import walk
from hospitium.imaging.scanning import read_index, scan, summarise
from hospitium.imaging.writing.nifti import write_nifti

KEY = SiteKey(bytes(32))
IDENTIFIERS = (
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID", "PatientName"),
    *("PatientBirthDate", "StudyDate", "AccessionNumber", "InstitutionName"),
)
SKIPPED = {
    "no_meta": "not_dicom",
    "meta_missing_tsyntax": "no_transfer_syntax",
    "MR_truncated": "truncated",
    "emri_small_jpeg_2k_lossless_too_short": "truncated",
    "nested_priv_SQ": "missing_attribute",
    "badVR": "bad_attribute",
    "rtplan": "no_pixels",
    "reportsi": "no_pixels",
    "waveform_ecg": "no_pixels",
    "rtdose": "not_an_image",
    "liver": "label_object",
    "liver_1frame": "label_object",
    "rtstruct": "label_object",
    "JPEG2000-embedded-sequence-delimiter": "codestream_mismatch",
}


@pytest.fixture
def look(tmp_path):
    """Scan in this process and return summary and records by file."""

    def look(root, *, workers=0, **more):
        index = tmp_path / "local" / "index.jsonl"
        more.setdefault("key", KEY)
        summary = scan(root, index=index, workers=workers, **more)
        return summary, {record.file: record for record in read_index(index)}

    return look


@pytest.fixture
def images(tmp_path, png):
    """Write this many unlike pictures into a folder."""

    def images(count, name="images"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 256, (6, 8), np.uint8)
            (folder / f"{number:05}.png").write_bytes(png(pixels))
        return folder

    return images


# --- the shared samples --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def samples(real_data, tmp_path_factory):
    index = tmp_path_factory.mktemp("samples") / "index.jsonl"
    summary = scan(real_data / "dicom_samples", index=index, workers=0, key=KEY)
    return index, summary, list(read_index(index))


def test_each_sample_is_read_or_skipped_as_the_specification_says(samples):
    _, summary, records = samples
    single = [record for record in records if "series_" not in record.file]
    found = {
        Path(record.file).stem.split("__")[1]: record.reason
        for record in single
        if record.status == "skipped"
    }
    assert found == SKIPPED
    assert (len(single), len(records), summary.num_read) == (57, 89, 43 + 32)
    assert sorted(summary.skipped) == sorted(set(SKIPPED.values()))


def test_seven_forms_of_one_image_are_one_array_and_six_copies(samples):
    forms = [record for record in samples[2] if "__MR_small" in record.file]
    assert len(forms) == 7 and len({record.sha256_pixels for record in forms}) == 1
    assert sum("duplicate_instance" in record.notes for record in forms) == 6
    assert "duplicate_instance" not in forms[0].notes
    padded = next(record for record in forms if record.file.endswith("padded.dcm"))
    assert "trailing_bytes" in padded.notes


def test_records_say_what_the_reader_gives(samples, real_data):
    files = {Path(record.file).stem: record for record in samples[2]}
    for name in ("pydicom__CT_small", "pydicom__examples_rgb_color", "pydicom-data__emri_small"):
        record = files[name]
        found = read_dicom(real_data / "dicom_samples" / record.file)
        assert record.sha256_pixels == pixel_sha256(found) and record.dtype == found.values.dtype
        assert record.shape == (found.values.shape if name.endswith("emri_small")
                                else found.values.shape[1:])  # fmt: skip
        assert record.facts == found.facts and record.digest == found.digest


def test_no_identifier_of_the_samples_is_in_the_index(samples, real_data):
    content, wanted = samples[0].read_bytes(), set()
    for path in sorted((real_data / "dicom_samples" / "files").rglob("*.dcm")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(path, force=True, stop_before_pixels=True)
            wanted.update(str(header.get(keyword) or "").strip() for keyword in IDENTIFIERS)
    makers = {record.facts.manufacturer for record in samples[2] if record.facts}
    wanted = {word for word in wanted if len(word) > 6 and word not in str(makers)}
    assert len(wanted) > 100
    assert not [word for word in wanted if word.encode() in content]


# --- what is found and what is not ---------------------------------------------------------------


NAMES = st.text("ab.-_ ", min_size=1, max_size=3).filter(lambda name: name.strip(". ") == name)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=12))
def test_files_come_in_the_order_of_their_paths(tmp_path, paths):
    root = tmp_path / "walked"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for parts in paths:
        path = root.joinpath(*parts)
        if not any(parent.is_file() for parent in path.parents) and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
    found = [file.file for file in walk(root)]
    there = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    assert found == sorted(there)


def test_indexes_of_others_and_documents_are_left_out_unless_they_are_images(images, dicom, ramp):
    folder = images(1)
    for name in ("DICOMDIR", ".hidden.dcm", "labels.csv", "README.md"):
        (folder / name).write_bytes(b"no image")
    (folder / "image.txt").write_bytes(dicom(ramp))
    assert [file.file for file in walk(folder)] == ["00000.png", "image.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_links_do_not_lead_out_of_the_folder(images, look, tmp_path):
    folder, outside = images(2), images(2, "outside")
    (folder / "inside.png").symlink_to(folder / "00000.png")
    (folder / "file.png").symlink_to(outside / "00000.png")
    (folder / "folder").symlink_to(outside)
    (folder / "broken.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "pipe.png")
    summary, records = look(folder)
    reasons = {name: record.reason for name, record in records.items() if record.reason}
    assert reasons == {
        "broken.png": "unreadable_file",
        "file.png": "outside_folder",
        "folder": "outside_folder",
        "pipe.png": "not_an_image",
    }
    assert summary.num_read == 3


def test_a_file_that_cannot_be_opened_is_said_with_owner_and_mode(images, look, monkeypatch):
    folder = images(3)
    opened = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: _closed(path, opened))
    summary, records = look(folder)
    shut = records["00001.png"]
    assert (summary.num_read, shut.reason) == (2, "unreadable_file")
    if os.name == "posix":
        assert "owner " in shut.detail and "mode 644" in shut.detail
    assert "detail" not in shut.published()
    monkeypatch.undo()  # access rights change without a trace in size or time
    assert look(folder)[0].num_read == 3


def _closed(path, opened):
    if path.name == "00001.png":
        raise PermissionError(13, "Permission denied", str(path))
    return opened(path)


def test_pictures_and_volumes_are_read_too(images, look, png, tmp_path):
    folder = images(1)
    colour = np.random.default_rng(1).integers(0, 256, (4, 5, 3), np.uint8)
    (folder / "colour.png").write_bytes(png(colour))
    affine = np.diag([2.0, 1.0, 3.0, 1.0])
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    write_nifti(folder / "volume.nii.gz", values, affine=affine)
    (folder / "notes").write_bytes(b"no image")
    _, records = look(folder)
    assert (records["00000.png"].shape, records["00000.png"].dtype) == ((6, 8), "float32")
    assert (records["colour.png"].shape, records["colour.png"].dtype) == ((4, 5, 3), "uint8")
    volume = records["volume.nii.gz"]
    assert (volume.shape, volume.spacing_mm) == ((2, 3, 4), (2.0, 1.0, 3.0))
    assert records["notes"].reason == "not_dicom"


def test_one_object_per_file_has_the_fixed_names(images, look):
    _, records = look(images(1))
    published = records["00000.png"].published()
    assert tuple(published) == PUBLISHED
    assert published["status"] == "read" and published["reason"] is None


def test_nothing_at_the_path_is_an_error_with_the_way_out(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        scan(tmp_path / "nowhere", index=tmp_path / "index.jsonl", workers=0)


# --- what belongs together -----------------------------------------------------------------------


def write_slices(folder, dicom, count, **attributes):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        values = np.arange(48, dtype=np.uint16).reshape(6, 8) + number
        uids = {"SOPInstanceUID": f"1.2.{number}", **attributes}
        (folder / f"{number}.dcm").write_bytes(dicom(values, **uids))
    return folder


def test_files_without_series_are_no_case_unless_the_folder_stands_for_it(dicom, tmp_path, look):
    write_slices(tmp_path / "data" / "one", dicom, 2)
    write_slices(tmp_path / "data" / "two", dicom, 2, SOPInstanceUID=None)
    by_uid, records = look(tmp_path / "data")
    assert by_uid.cautions == {"uid_missing": 4} and records["one/0.dcm"].uids.study == ""
    by_folder, records = look(tmp_path / "data", group_by="folder")
    assert by_folder.cautions == {} and by_folder.num_series == by_folder.num_subjects == 2
    assert records["one/0.dcm"].series == records["one/1.dcm"].series


def test_one_uid_of_unlike_images_is_a_conflict_until_one_is_gone(dicom, tmp_path, look):
    folder = write_slices(tmp_path / "data", dicom, 3, SOPInstanceUID="1.2.3")
    summary, records = look(folder)
    assert summary.skipped == {"uid_conflict": 3} and not records["0.dcm"].notes
    (folder / "0.dcm").unlink()
    (folder / "1.dcm").unlink()
    summary, _ = look(folder)
    assert (summary.num_read, summary.num_read_again) == (1, 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy")), max_size=6))
def test_copies_keep_one_and_conflicts_none(found):
    facts = _facts()
    records = [
        Record(file=str(n), status="read", facts=facts, sha256_pixels=pixels, uids=_uids(name))
        for n, (name, pixels) in enumerate(found)
    ]
    result = list(resolved(records, records))
    for name in "ab":
        mine = [r for r in result if r.uids.instance == name]
        is_conflict = len({r.sha256_pixels for r in mine}) > 1
        assert all((r.reason == "uid_conflict") == is_conflict for r in mine)
        copies = sum("duplicate_instance" in r.notes for r in mine)
        assert copies == (0 if is_conflict else max(0, len(mine) - 1))


def _uids(instance):
    return Uids(instance=instance)


def _facts():
    return Facts(
        modality="CT", manufacturer="", rows=1, columns=1, bits_stored=8, photometric="",
        spacing_mm=(1.0, 2.0), sop_class="1.2.840", image_type=("ORIGINAL",),
    )  # fmt: skip


def test_a_record_survives_its_line():
    record = Record(
        file="a/\udcff b.dcm", status="read", notes=("lossy",), shape=(2, 3), spacing_mm=(1.0, 2.0),
        facts=_facts(), uids=_uids("x"), size=7, mtime_ns=9,
    )  # fmt: skip
    assert Record.from_line(record.as_line()) == record


# --- going on ------------------------------------------------------------------------------------


def test_files_that_have_not_changed_are_not_opened_again(images, look, png):
    folder = images(5)
    assert look(folder)[0].num_read_again == 5
    before = look(folder)
    assert before[0].num_read_again == 0
    (folder / "00002.png").write_bytes(png(np.eye(9, dtype=np.uint8)))
    (folder / "00003.png").unlink()
    (folder / "new.png").write_bytes(png(np.eye(7, dtype=np.uint8)))
    summary, records = look(folder)
    assert summary.num_read_again == 2 and records["00002.png"].shape == (9, 9)
    assert list(records) == sorted({*before[1], "new.png"} - {"00003.png"})


def test_another_key_or_option_reads_again(images, look):
    folder = images(3)
    look(folder)
    assert look(folder, group_by="folder")[0].num_read_again == 3
    assert look(folder, group_by="folder", key=SiteKey(b"k" * 32))[0].num_read_again == 3


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(stops=st.lists(st.integers(1, 39), max_size=4))
def test_a_scan_interrupted_anywhere_ends_like_an_unbroken_one(images, look, tmp_path, stops):
    folder = images(40)
    shutil.rmtree(tmp_path / "local", ignore_errors=True)
    num_done = 0
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            look(folder, progress=lambda done, of, stop=stop: _stop_at(done, stop))
        num_done = max(num_done, stop)
    summary, records = look(folder)
    assert summary.num_read_again == 40 - num_done
    (tmp_path / "local" / "index.jsonl").unlink()
    assert (look(folder)[1]) == records
    assert sorted(path.name for path in (tmp_path / "local").iterdir()) == ["index.jsonl"]


def _stop_at(done, stop):
    if done == stop:
        raise KeyboardInterrupt


def test_a_torn_line_of_the_journal_costs_its_file_alone(images, look, tmp_path):
    folder = images(10)
    with pytest.raises(KeyboardInterrupt):
        look(folder, progress=lambda done, of: _stop_at(done, 6))
    journal = tmp_path / "local" / "index.journal"
    journal.write_bytes(journal.read_bytes()[:-9])
    assert look(folder)[0].num_read_again == 5


def test_an_index_that_is_missing_or_damaged_is_said(tmp_path, images, look):
    index = tmp_path / "local" / "index.jsonl"
    with pytest.raises(StorageError, match="Scan the data set"):
        list(read_index(index))
    folder = images(2)
    look(folder)
    index.write_bytes(index.read_bytes()[:-9])
    with pytest.raises(CorruptedError, match="line 2"):
        summarise(read_index(index))
    assert look(folder)[0].num_read_again == 1
    index.write_bytes(b"[" * 100_000)
    with pytest.raises(CorruptedError, match="line 1"):
        summarise(read_index(index))
    assert look(folder)[0].num_read_again == 2


# --- workers -------------------------------------------------------------------------------------

HANDLERS = """
import os, time

def prepare(settings):
    def answer(request):
        if request.startswith(b"die"):
            os._exit(3)
        if request.startswith(b"hang"):
            time.sleep(600)
        return settings + request
    return answer

def broken(settings):
    raise ValueError("no decoder")

def deadly(settings):
    from hospitium.imaging import scan_worker  # here, as it is slow, and the others need it not

    read = scan_worker.prepare(settings)
    def answer(request):
        if b"00002" in request and b'"denied": []' in settings:
            os._exit(3)
        return read(request)
    return answer
"""


@pytest.fixture
def handlers(tmp_path, monkeypatch):
    """A module that spawned processes find, with handlers that misbehave."""
    (tmp_path / "misbehaving.py").write_text(HANDLERS)
    monkeypatch.syspath_prepend(tmp_path)
    import misbehaving

    yield misbehaving
    del sys.modules["misbehaving"]


def test_a_worker_that_dies_or_hangs_costs_one_answer(handlers):
    requests = [b"a", b"die", b"b", None, b"hang", b"c"]
    found = answers(
        ((request, request) for request in requests),
        prepare=handlers.prepare,
        settings=b"<",
        num_workers=2,
        time_limit_s=1.0,
    )
    result = list(found)
    assert [item for item, _ in result] == requests
    given = [answer for _, answer in result]
    assert given[0] == b"<a" and given[2] == b"<b" and given[3] is None and given[5] == b"<c"
    assert given[1] == GaveUp(detail="a worker process died on it")
    assert given[4] == GaveUp(detail="not decoded in 1 s")


def test_workers_that_cannot_start_are_an_error_not_a_skip(handlers):
    found = answers([(1, b"a")], prepare=handlers.broken, settings=b"", num_workers=1)
    with pytest.raises(DataError, match="ValueError: no decoder"):
        list(found)


def test_no_more_is_taken_than_can_be_worked_on(handlers):
    taken = []

    def requests():
        for number in range(300):
            taken.append(number)
            yield number, b"x"

    found = answers(requests(), prepare=handlers.prepare, settings=b"", num_workers=1)
    for _ in range(3):
        next(found)
    assert len(taken) <= 64
    found.close()


@pytest.mark.ci
def test_a_file_that_kills_two_workers_is_denied_until_its_bytes_change(
    handlers, images, look, monkeypatch, tmp_path, png
):
    folder = images(6)
    monkeypatch.setattr(scanning, "prepare", handlers.deadly)
    summary, records = look(folder, workers=2)
    assert summary.skipped == {"decode_failed": 1} and summary.num_read == 5
    assert records["00002.png"].detail == "a worker process died on it, twice"
    (denied,) = json.loads((tmp_path / "local" / "index.denied").read_text())
    assert denied == records["00002.png"].digest
    monkeypatch.undo()
    os.utime(folder / "00002.png", ns=(1, 1))
    summary, records = look(folder)
    assert (summary.num_read_again, records["00002.png"].detail) == (1, "on the deny list")
    (folder / "00002.png").write_bytes(png(np.eye(9, dtype=np.uint8)))
    assert look(folder)[0].num_read == 6


@pytest.mark.ci
def test_the_index_does_not_depend_on_the_number_of_workers(real_data, tmp_path):
    contents = set()
    for workers in (0, 1, 3):
        index = tmp_path / str(workers) / "index.jsonl"
        scan(real_data / "dicom_samples", index=index, workers=workers, key=KEY)
        contents.add(index.read_bytes())
    assert len(contents) == 1

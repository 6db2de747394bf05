"""DICOMweb: what is asked, what is taken, and what happens when the PACS misbehaves."""

import hashlib
from dataclasses import replace

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from orthanc import PASSWORD, USER, Orthanc, why_not

from hospitium.errors import PacsError, StorageError, UsageError
from hospitium.imaging.sources.multipart import MultipartError, boundary_of, parts
from hospitium.operations.cohorts import PacsSettings, Query, Rules, fetch_cohort, probe_pacs

EVERYTHING = Query(modalities=("CR", "DX", "OT"))


def settings_of(url, **more):
    common = {"quiet_s": 0.0, "instances_per_s": 1000.0, "timeout_s": 10.0}
    return PacsSettings(kind="dicomweb", url=url, **{**common, **more})


@pytest.fixture
def of_orthanc(monkeypatch):
    def make(server, **more):
        monkeypatch.setenv("PACS_PASSWORD", PASSWORD)
        secret = {"user": USER, "password_env": "PACS_PASSWORD"}
        return settings_of(f"{server.url}/dicom-web", **secret, **more)

    return make


def fetch(pacs, folder, key, query=EVERYTHING, rules=None, labels=None, **more):
    return fetch_cohort(pacs, query, rules or Rules(), labels, folder=folder, key=key, **more)


def digests(folder):
    return sorted(hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*.dcm"))


def fill(server, folder):
    for path in sorted(folder.rglob("*.dcm")):
        (server.add if hasattr(server, "add") else server.store)(path.read_bytes())


# --- multipart ---------------------------------------------------------------------------------


def body_of(contents, boundary):
    head = b"\r\nContent-Type: application/dicom\r\n\r\n"
    return (
        b"preamble\r\n"
        + b"".join(b"--" + boundary + head + content + b"\r\n" for content in contents)
        + b"--"
        + boundary
        + b"--\r\n"
    )


@settings(max_examples=60, deadline=None)
@given(
    contents=st.lists(st.binary(max_size=60).filter(lambda raw: b"--e" not in raw), max_size=4),
    size=st.integers(1, 50),
)
def test_parts_are_what_was_sent_however_it_is_cut_into_chunks(contents, size):
    body = body_of(contents, b"e")
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    assert [b"".join(part) for part in parts(chunks, boundary=b"e")] == contents


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_an_answer_that_ends_early_is_never_taken_for_whole(data):
    body = body_of([b"first", b"second"], b"edge")
    cut = data.draw(st.integers(0, len(body) - len(b"--\r\n")))
    with pytest.raises(MultipartError):
        for part in parts([body[:cut]], boundary=b"edge"):
            b"".join(part)


@pytest.mark.parametrize("content_type", ["", "application/dicom", "multipart/related; boundary="])
def test_an_answer_that_is_no_multipart_is_refused(content_type):
    with pytest.raises(MultipartError):
        boundary_of(content_type)


# --- a PACS that misbehaves ----------------------------------------------------------------------


def test_the_bytes_that_the_pacs_stores_are_the_bytes_on_disk(fake, chests, tmp_path, key):
    fill(fake, chests)
    flow = fetch(settings_of(fake.url), tmp_path / "c", key)
    assert digests(tmp_path / "c" / "files") == digests(chests)
    assert flow.num_instances == flow.num_fetched == len(digests(chests))


def test_stored_transfer_syntax_is_always_asked_for(fake, chests, tmp_path, key):
    fill(fake, chests)
    fetch(settings_of(fake.url), tmp_path / "c", key)
    fetches = [h["Accept"] for h in fake.headers if "multipart" in h["Accept"]]
    assert len(fetches) == len(digests(chests))
    assert all("transfer-syntax=*" in accept for accept in fetches)


def test_no_proxy_of_the_environment_is_used(fake, chests, tmp_path, key, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    fill(fake, chests)
    assert fetch(settings_of(fake.url), tmp_path / "c", key).num_instances > 0


def test_a_redirect_is_not_followed(fake, tmp_path, key):
    with type(fake)() as elsewhere:
        fake.redirect = f"{elsewhere.url}/studies"
        with pytest.raises(PacsError, match="redirect"):
            fetch(settings_of(fake.url), tmp_path / "c", key)
        assert not elsewhere.asked


def test_only_exact_matches_are_taken_from_an_answer(fake, chests, tmp_path, key):
    fill(fake, chests)
    fake.ignores_filters = True
    flow = fetch(
        settings_of(fake.url), tmp_path / "c", key, Query(key="PatientID", values=("brindle-0001",))
    )
    wanted = {u for u, study in fake.studies.items() if study["PatientID"] == "brindle-0001"}
    assert flow.steps[0].count_in == len(wanted) > 0


def test_a_key_that_is_there_twice_is_asked_for_once(fake, chests, tmp_path, key):
    fill(fake, chests)
    query = Query(key="PatientID", values=("brindle-0001",) * 3)
    fetch(settings_of(fake.url), tmp_path / "c", key, query)
    assert sum("PatientID=" in path and "offset=0" in path for path in fake.asked) == 1


@pytest.mark.parametrize("ignores_paging", [False, True])
def test_every_page_is_read_and_none_for_ever(fake, chests, tmp_path, key, ignores_paging):
    fill(fake, chests)
    fake.ignores_paging = ignores_paging
    flow = fetch(
        settings_of(fake.url, page_size=2), tmp_path / "c", key, Query(dates=("20000101", ""))
    )
    assert flow.steps[0].count_in == (2 if ignores_paging else len(fake.studies))


def test_an_empty_study_is_counted_and_never_fatal(fake, chests, tmp_path, key):
    fill(fake, chests)
    fake.add_shell("1.2.3", ModalitiesInStudy="DX")
    flow = fetch(settings_of(fake.url), tmp_path / "c", key)
    assert flow.steps[0].reasons == {"empty_study": 1}
    assert flow.num_instances == len(digests(chests))


def test_a_study_with_fewer_images_than_told_is_left_out(fake, chests, tmp_path, key):
    fill(fake, chests)
    uid = next(iter(fake.studies))
    fake.studies[uid]["NumberOfStudyRelatedInstances"] = "2"
    flow = fetch(settings_of(fake.url), tmp_path / "c", key)
    assert sum(step.reasons.get("incomplete_study", 0) for step in flow.steps) == 1
    assert uid in (tmp_path / "c" / "problems.csv").read_text()


def test_a_study_that_fails_is_left_out_with_its_cause_and_the_others_are_kept(
    fake, chests, tmp_path, key
):
    fill(fake, chests)
    study, series = next((u, next(iter(s))) for u, s in fake.files.items())
    instance = next(iter(fake.files[study][series]))
    fake.statuses[f"/studies/{study}/series/{series}/instances/{instance}"] = 500
    flow = fetch(settings_of(fake.url), tmp_path / "c", key)
    assert flow.steps[-1].reasons == {"import_failed": 1}
    assert "HTTP 500" in (tmp_path / "c" / "problems.csv").read_text()
    assert flow.num_instances == len(digests(chests)) - 1


def test_an_answer_that_breaks_off_leaves_nothing_half_written(fake, chests, tmp_path, key):
    fill(fake, chests)
    fake.cut_off = {next(iter(next(iter(fake.files.values()))))}
    flow = fetch(settings_of(fake.url), tmp_path / "c", key)
    assert flow.steps[-1].reasons == {"import_failed": 1}
    assert set(digests(tmp_path / "c" / "files")) < set(digests(chests))
    assert not list((tmp_path / "c").rglob("*.part"))
    fake.cut_off = set()
    assert fetch(settings_of(fake.url), tmp_path / "c", key).num_fetched == 1
    assert digests(tmp_path / "c" / "files") == digests(chests)


def test_what_is_there_with_its_digest_is_not_fetched_again(fake, chests, tmp_path, key):
    fill(fake, chests)
    fetch(settings_of(fake.url), tmp_path / "c", key)
    victim = next((tmp_path / "c" / "files").rglob("*.dcm"))
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    fake.asked.clear()
    flow = fetch(settings_of(fake.url), tmp_path / "c", key)
    assert flow.num_fetched == 1
    assert sum("/instances/" in path for path in fake.asked) == 1
    assert digests(tmp_path / "c" / "files") == digests(chests)


def test_many_failures_in_a_row_stop_the_fetch(fake, chests, tmp_path, key):
    fill(fake, chests)
    for study, some in fake.files.items():
        for series, files in some.items():
            for uid in files:
                fake.statuses[f"/studies/{study}/series/{series}/instances/{uid}"] = 500
    with pytest.raises(PacsError, match="in a row"):
        fetch(settings_of(fake.url), tmp_path / "c", key)


def test_the_quota_is_kept(fake, chests, tmp_path, key):
    fill(fake, chests)
    with pytest.raises(StorageError, match="quota"):
        fetch(settings_of(fake.url, quota_gib=30_000 / 2**30), tmp_path / "c", key)
    size = sum(path.stat().st_size for path in (tmp_path / "c" / "files").rglob("*"))
    assert size <= 30_000 + 4096 * 20
    assert 0 < len(digests(tmp_path / "c" / "files")) <= 3
    assert not list((tmp_path / "c").rglob("*.part"))


@pytest.mark.parametrize(("status", "words"), [(401, "refused"), (500, "HTTP 500")])
def test_a_query_that_is_refused_says_so(fake, tmp_path, key, status, words):
    fake.statuses["/studies"] = status
    with pytest.raises(PacsError, match=words):
        fetch(settings_of(fake.url), tmp_path / "c", key)


def test_an_address_where_nobody_is_says_so(tmp_path, key):
    with pytest.raises(PacsError, match="cannot be reached"):
        fetch(settings_of("http://127.0.0.1:9/dicom-web", timeout_s=1.0), tmp_path / "c", key)


def test_a_probe_tells_what_the_service_can_do(fake, chests):
    fill(fake, chests)
    answers = probe_pacs(settings_of(fake.url)).answers
    assert answers["paging"] == "yes" and answers["stored transfer syntax"] == "yes"
    fake.ignores_paging = True
    assert probe_pacs(settings_of(fake.url)).answers["paging"] == "no"


# --- Orthanc -------------------------------------------------------------------------------------


@pytest.mark.ci
def test_orthanc_gives_back_the_bytes_that_were_stored(orthanc, chests, tmp_path, key, of_orthanc):
    fill(orthanc, chests)
    flow = fetch(of_orthanc(orthanc), tmp_path / "c", key)
    assert digests(tmp_path / "c" / "files") == digests(chests)
    assert flow.steps[0].count_in == flow.steps[-1].count_out == len(digests(chests))


@pytest.mark.ci
def test_orthanc_answers_a_probe(orthanc, chests, of_orthanc):
    fill(orthanc, chests)
    answers = probe_pacs(of_orthanc(orthanc)).answers
    assert answers["paging"] == "yes"
    assert answers["number of instances"] == "told"
    assert answers["stored transfer syntax"] == "yes"


@pytest.mark.ci
def test_a_wildcard_never_reaches_orthanc(orthanc, chests, tmp_path, key, of_orthanc):
    fill(orthanc, chests)
    for value in ("*", "brindle-000?", "a\\b"):
        with pytest.raises(UsageError, match="exact"):
            Query(key="PatientID", values=(value,))
    query = Query(key="PatientID", values=("brindle-0001",))
    flow = fetch(of_orthanc(orthanc), tmp_path / "c", key, query)
    names = {path.name for path in chests.rglob("brindle-0001-*.dcm")}
    assert flow.num_instances == len(names)


@pytest.mark.ci
def test_a_wrong_password_says_so(orthanc, tmp_path, key, of_orthanc, monkeypatch):
    pacs = of_orthanc(orthanc)
    monkeypatch.setenv("PACS_PASSWORD", "another one")
    with pytest.raises(PacsError, match="refused"):
        fetch(pacs, tmp_path / "c", key)


@pytest.mark.ci
def test_compressed_images_arrive_compressed(orthanc, real_data, tmp_path, key, of_orthanc):
    names = ("RG1_J2KI", "JPEG2000", "JPGExtended", "693_J2KI", "JPEG-LL", "jpeg_ls_lossless")
    paths = [
        path
        for path in sorted((real_data / "dicom_samples" / "files").iterdir())
        if any(name in path.name for name in names) and "sequence" not in path.name
    ]
    assert len(paths) >= 6
    for path in paths:
        orthanc.store(path.read_bytes())
    studies = {str(pydicom.dcmread(path).StudyInstanceUID) for path in paths}
    query = Query(key="StudyInstanceUID", values=tuple(studies))
    fetch(of_orthanc(orthanc), tmp_path / "c", key, query)
    sent = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
    assert digests(tmp_path / "c" / "files") == sent


@pytest.mark.ci
def test_orthanc_killed_midway_is_a_clear_error_and_the_rest_is_fetched_later(
    chests, tmp_path, key, of_orthanc
):
    if reason := why_not():
        pytest.skip(reason)
    with Orthanc(folder=tmp_path / "orthanc") as first:
        fill(first, chests)

        def kill_midway(event):
            if (
                event["kind"] == "count"
                and event["text"] == "studies fetched"
                and event["done"] == 3
            ):
                first.kill()

        with pytest.raises(PacsError, match="cannot be reached"):
            fetch(of_orthanc(first), tmp_path / "c", key, progress=kill_midway)
    kept = digests(tmp_path / "c" / "files")
    assert len(kept) == 3 and set(kept) < set(digests(chests))
    assert not list((tmp_path / "c").rglob("*.part"))
    assert not (tmp_path / "c" / "labels.csv").exists()
    with Orthanc(folder=tmp_path / "orthanc") as second:
        pacs = replace(of_orthanc(second), name="again")
        flow = fetch(pacs, tmp_path / "c", key)
    assert flow.num_fetched == len(digests(chests)) - 3
    assert digests(tmp_path / "c" / "files") == digests(chests)

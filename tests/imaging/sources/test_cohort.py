"""A cohort: rules, labels by key, counts at each step, politeness; and from Orthanc to training."""

import csv
import hashlib
import json
import os
from dataclasses import replace
from datetime import datetime, time
from xml.etree import ElementTree

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from orthanc import AE_TITLE, OUR_AE_TITLE, PASSWORD, USER
from typer.testing import CliRunner

from hospitium.cli.main import app
from hospitium.errors import DataError, PacsError, StateConflictError, UsageError
from hospitium.imaging.geometry import assemble
from hospitium.imaging.instance import Skip, Uids
from hospitium.imaging.masks import read_seg
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.reading import parse_dicom
from hospitium.imaging.sources import read_source
from hospitium.imaging.sources.flow import FLOW_REASONS, Flow, Step, flow_svg
from hospitium.imaging.sources.label_keys import query_of
from hospitium.imaging.sources.pace import Pace
from hospitium.imaging.sources.pacs import parse_pacs_settings
from hospitium.operations.cohorts import (
    LabelFile,
    PacsSettings,
    Query,
    Rules,
    fetch_cohort,
    fetch_data_set,
    parse_query,
    parse_rules,
    read_label_table,
    read_pacs_settings,
    read_words,
)
from hospitium.operations.finishing import finish_run
from hospitium.operations.preparing import prepare_run
from hospitium.operations.site_data import add_data_set, find_data, scan_data
from hospitium.plan import Plan
from hospitium.plan.schema import ModelSection, RoundsSection
from hospitium.plan.writing import to_toml
from hospitium.state.home import Home
from hospitium.testing.phantoms import Knobs, Site, write_phantoms, write_volumes

EVERYTHING = Query(modalities=("CR", "DX", "OT"))


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self):
        self.seconds, self.slept, self.when_asleep = 0.0, [], lambda: None

    def __call__(self):
        return self.seconds

    def sleep(self, seconds):
        self.seconds += seconds
        self.slept.append(seconds)
        self.when_asleep()


def settings_of(url, **more):
    common = {"quiet_s": 0.0, "instances_per_s": 1000.0, "timeout_s": 10.0}
    return PacsSettings(kind="dicomweb", url=url, **{**common, **more})


def fetch(pacs, folder, key, query=EVERYTHING, rules=None, labels=None, **more):
    return fetch_cohort(pacs, query, rules or Rules(), labels, folder=folder, key=key, **more)


def table(folder, rows, name="truth.csv"):
    path = folder / name
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return path


def reasons(flow):
    return {step.name: dict(step.reasons) for step in flow.steps if step.reasons}


@pytest.fixture
def filled(fake, chests):
    """A fake PACS with the phantoms; accession numbers A0, A1 and so on."""
    for number, path in enumerate(sorted(chests.rglob("*.dcm"))):
        fake.add(path.read_bytes(), AccessionNumber=f"A{number}")
    return fake


# --- settings and queries ------------------------------------------------------------------------


def test_settings_are_read_and_secrets_come_from_elsewhere(tmp_path, monkeypatch):
    path = tmp_path / "pacs.toml"
    path.write_text(
        'kind = "dicomweb"\nurl = "https://pacs.example/dicom-web"\nuser = "u"\n'
        'password_file = "secret"\nquiet_s = 5\n'
    )
    (tmp_path / "secret").write_text("hidden\n")
    (tmp_path / "secret").chmod(0o600)
    found = read_pacs_settings(path)
    assert found.password() == "hidden" and found.quiet_s == 5.0
    assert "hidden" not in repr(found)


@pytest.mark.skipif(os.name != "posix", reason="file modes are of POSIX")
def test_a_password_file_that_others_may_read_is_refused(tmp_path):
    (tmp_path / "secret").write_text("hidden")
    (tmp_path / "secret").chmod(0o644)
    pacs = settings_of("https://pacs.example", user="u", password_file=str(tmp_path / "secret"))
    with pytest.raises(UsageError, match="chmod 600"):
        pacs.password()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('kind = "ftp"', "kind is 'ftp'"),
        ('url = "https://x"', "no kind"),
        ('kind = "dicomweb"', "url missing"),
        ('kind = "dicomweb"\nurl = "https://x"\nquite_s = 1', "quite_s is no setting"),
        ('kind = "dicomweb"\nurl = "https://x"\nquiet_s = "a"', "expected a float"),
        ('kind = "dicomweb"\nurl = "https://u:p@x"', "password"),
        ('kind = "dicomweb"\nurl = "http://x"\nuser = "u"\npassword_env = "P"', "allow_http"),
        ('kind = "dimse"\nhost = "h"\nport = 104', "ae_title missing"),
        ('kind = "dimse"\nhost = "h"\nport = 99999\nae_title = "A"', "port is 99999"),
        ('kind = "dicomweb"\nurl = "https://x"\nhours = "late"', "hours"),
        ("kind =", "not TOML"),
    ],
)
def test_settings_that_are_wrong_say_what_is(text, words):
    with pytest.raises(UsageError, match=words):
        parse_pacs_settings(text)


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [("20:00-06:00", time(23), time(12)), ("08:00-18:00", time(8), time(18))],
)
def test_the_time_window_may_go_over_midnight(hours, inside, outside):
    pacs = settings_of("https://x", hours=hours)
    assert pacs.is_open(inside) and not pacs.is_open(outside)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=12), st.sampled_from("*?\\"), st.text(max_size=12))
def test_no_wildcard_ever_becomes_a_key(before, mark, after):
    for key in ("PatientID", "AccessionNumber", "StudyInstanceUID"):
        with pytest.raises(UsageError):
            Query(key=key, values=(before + mark + after,))


@pytest.mark.parametrize(
    "words",
    [
        *(["PatientID=*"], ["Sex=F"], ["Modality=d?"], ["StudyDate=2020"], [], ["PatientID="]),
        ["PatientID=1", "AccessionNumber=2"],
    ],
)
def test_a_query_that_is_not_exact_is_refused(words):
    with pytest.raises(UsageError, match="Query"):
        parse_query(words)


def test_a_query_asks_for_each_value_once():
    query = parse_query(["AccessionNumber=A,B,A", "Modality=DX"])
    assert [wanted["AccessionNumber"] for wanted in query.filters()] == ["A", "B"]


def test_rules_are_read_with_the_table_of_words(tmp_path):
    table(tmp_path, [("word", "name"), ("Thorax  p.a.", "chest frontal")], "words.csv")
    text = (
        'modalities = ["DX"]\nages = [18, -1]\ndates = ["20200101", ""]\n'
        'descriptions = ["chest frontal"]\nwords = "words.csv"\nwith_masks = true\n'
    )
    rules = parse_rules(text, folder=tmp_path)
    assert rules.ages == (18, None) and rules.words == {"Thorax  p.a.": "chest frontal"}


@pytest.mark.parametrize(
    "text",
    ['mods = ["DX"]', 'modalities = "DX"', "ages = [1]", 'descriptions = ["a"]', "with_masks = 1"],
)
def test_rules_that_are_wrong_are_refused(text, tmp_path):
    with pytest.raises(UsageError, match="rules"):
        parse_rules(text, folder=tmp_path)


# --- labels --------------------------------------------------------------------------------------


def test_repeated_labels_collapse_and_contradictions_are_conflicts(tmp_path):
    rows = [("AccessionNumber", "label"), *[("A1", "normal")] * 2, ("A2", "normal")]
    rows += [("A2", "Pneumonia"), ("A3", "NORMAL"), ("A4", "NA"), ("A5", "")]
    found = read_label_table(table(tmp_path, rows))
    assert found.key == "accession"
    assert dict(found.labels) == {"A1": "normal", "A3": "normal"}
    assert found.find(Uids(accession="A2")) == ("", "label_conflict")
    assert (found.num_repeated, found.num_unlabelled) == (1, 2)


@pytest.mark.parametrize(
    ("column", "kind", "uids"),
    [
        ("Accession No", "accession", Uids(accession="k")),
        ("StudyInstanceUID", "study", Uids(study="k")),
        ("patient_id", "patient", Uids(patient="k")),
    ],
)
def test_the_name_of_the_key_column_tells_what_it_holds(tmp_path, column, kind, uids):
    rows = [(column, "label"), ("k", "yes"), ("l", "no")]
    column = "AccessionNumber" if column == "Accession No" else column
    rows[0] = (column, "label")
    found = read_label_table(table(tmp_path, rows))
    assert found.key == kind and found.find(uids) == ("yes", "")
    assert found.num_unmatched({"k"}) == 1


def test_labels_by_file_are_found_and_are_no_query(tmp_path):
    found = read_label_table(table(tmp_path, [("file", "label"), ("a\\b.dcm", "x"), ("c", "y")]))
    assert found.find(Uids(), file="a/b.dcm") == ("x", "")
    with pytest.raises(UsageError, match="knows no files"):
        query_of(found)


def test_words_are_mapped_once_and_others_are_reported_and_kept(tmp_path):
    words = read_words(table(tmp_path, [("local", "name"), ("Infiltrat", "pneumonia")], "w.csv"))
    rows = [("accession", "label"), ("1", "infiltrat"), ("2", "Erguss"), ("3", "Pneumonia")]
    found = read_label_table(table(tmp_path, rows), words=words)
    assert dict(found.labels) == {"1": "pneumonia", "2": "Erguss", "3": "pneumonia"}
    assert dict(found.unmapped) == {"Erguss": 1, "Pneumonia": 1}


def test_keys_that_no_pacs_may_be_asked_for_are_counted(tmp_path):
    rows = [("AccessionNumber", "label"), ("*", "a"), ("A1", "b"), ("x\\y", "b")]
    query, num_not_asked = query_of(read_label_table(table(tmp_path, rows)))
    assert (query.values, num_not_asked) == (("A1",), 2)


def test_a_table_without_a_key_column_says_what_is_expected(tmp_path):
    with pytest.raises(DataError, match="AccessionNumber"):
        read_label_table(table(tmp_path, [("colour", "label"), ("1", "2")]))


# --- the flow ------------------------------------------------------------------------------------


def test_every_study_is_counted_at_every_step(filled, tmp_path, key):
    dated = sorted(study["StudyDate"] for study in filled.studies.values())
    labels = [("AccessionNumber", "label")]
    labels += [(f"A{n}", "normal") for n in range(1, len(dated))]
    labels += [("A1", "other"), ("Z9", "normal")]
    rules = Rules(dates=(dated[1], ""), modalities=("DX",))
    found = read_label_table(table(tmp_path, labels))
    flow = fetch(settings_of(filled.url), tmp_path / "c", key, rules=rules, labels=found)
    for step, following in zip(flow.steps, flow.steps[1:], strict=False):
        assert step.count_out == following.count_in
        assert step.count_in - step.count_out == sum(step.reasons.values())
        assert set(step.reasons) <= set(FLOW_REASONS)
    assert reasons(flow)["have a label"] == {"no_label": 1, "label_conflict": 1}
    assert flow.label_rows["unmatched"] == 1 and flow.label_rows["conflicts"] == 1
    kept = [
        study
        for study in filled.studies.values()
        if study["ModalitiesInStudy"] == "DX"
        and study["StudyDate"] >= dated[1]
        and study["AccessionNumber"] not in ("A0", "A1")
    ]
    assert flow.steps[-1].count_out == len(kept) > 0


def test_labels_alone_say_what_to_ask_for(filled, tmp_path, key):
    rows = [("AccessionNumber", "label"), ("A1", "normal"), ("A2", "pneumonia"), ("A?", "normal")]
    labels = read_label_table(table(tmp_path, rows))
    flow = fetch(settings_of(filled.url), tmp_path / "c", key, query=None, labels=labels)
    assert flow.steps[0].count_in == 2 and flow.label_rows["not_asked"] == 1
    with (tmp_path / "c" / "labels.csv").open(newline="") as stream:
        assert sorted(row["label"] for row in csv.DictReader(stream)) == ["normal", "pneumonia"]


def test_nothing_that_names_a_patient_or_study_is_in_tables_or_file_names(filled, tmp_path, key):
    fetch(settings_of(filled.url), tmp_path / "c", key)
    text = "".join(
        (tmp_path / "c" / name).read_text()
        for name in ("labels.csv", "flow.json", ".fetched.jsonl")
    )
    text += "".join(str(path.relative_to(tmp_path)) for path in (tmp_path / "c").rglob("*"))
    for uid, study in filled.studies.items():
        series = next(iter(filled.files[uid]))
        instance = next(iter(filled.files[uid][series]))
        for secret in (uid, series, instance, study["PatientID"], study["StudyDate"]):
            assert secret not in text


def test_what_is_of_the_cohort_no_more_is_removed(filled, tmp_path, key):
    pacs = settings_of(filled.url)
    before = fetch(pacs, tmp_path / "c", key)
    after = fetch(pacs, tmp_path / "c", key, rules=Rules(modalities=("CR",)))
    files = list((tmp_path / "c" / "files").rglob("*.dcm"))
    assert 0 < len(files) == after.num_instances < before.num_instances
    assert after.num_fetched == 0


counts = st.lists(
    st.dictionaries(st.sampled_from(sorted(FLOW_REASONS)), st.integers(1, 40)), max_size=5
)


@settings(max_examples=60, deadline=None)
@given(start=st.integers(0, 200), left_out=counts)
def test_no_small_count_can_be_had_from_the_suppressed_flow(start, left_out):
    steps, left = [], start
    for number, found in enumerate(left_out):
        taken = {reason: count for reason, count in found.items() if sum(found.values()) <= left}
        steps.append(
            Step(
                name=f"s{number}",
                count_in=left,
                count_out=left - sum(taken.values()),
                reasons=taken,
            )
        )
        left = steps[-1].count_out
    shown = Flow(steps=tuple(steps), num_subjects=left).suppressed()
    told = [
        c for s in shown["steps"] for c in (s["count_in"], s["count_out"]) if isinstance(c, int)
    ]
    assert all(count == 0 or count >= 10 for count in told)
    assert all(abs(a - b) == 0 or abs(a - b) >= 10 for a in told for b in told)
    for step in shown["steps"]:
        numbers = [count for count in step["reasons"].values() if isinstance(count, int)]
        assert all(count >= 10 for count in numbers)
        if isinstance(step["count_in"], int) and isinstance(step["count_out"], int):
            rest = step["count_in"] - step["count_out"] - sum(numbers)
            assert rest == 0 or rest >= 10


def test_the_picture_holds_every_count_and_is_well_formed(filled, tmp_path, key):
    filled.add_shell("1.2.3", ModalitiesInStudy="DX")
    flow = fetch(settings_of(filled.url), tmp_path / "c", key, rules=Rules(modalities=("DX", "CR")))
    picture = ElementTree.fromstring(flow_svg(flow))
    words = " ".join(element.text or "" for element in picture.iter())
    for step in flow.steps:
        assert step.name in words and str(step.count_out) in words
        assert all(FLOW_REASONS[reason] in words for reason in step.reasons)
    assert json.loads((tmp_path / "c" / "flow.json").read_text())["steps"][0]["count_in"] > 0


# --- rules about series, over a PACS in memory ---------------------------------------------------


class Archive:
    """A PACS in memory that knows descriptions and ages; its images are bytes of no meaning."""

    def __init__(self, *studies):
        self.known = studies

    def studies(self, query):
        yield from (study for study, _ in self.known)

    def series(self, study):
        return next(list(series) for found, series in self.known if found.uids.study == study)

    def instances(self, study, series):
        return []

    def close(self):
        pass


def select_from(archive, rules):
    from hospitium.imaging.sources.fetching import Chosen
    from hospitium.imaging.sources.flow import FlowBook
    from hospitium.imaging.sources.selecting import Selection, select

    chosen = [Chosen(study=study, series=()) for study in archive.studies(None)]
    selection = Selection(pacs=archive, book=FlowBook(), left=chosen)
    select(selection, rules, None, Pace(settings=settings_of("https://x")), None)
    left = {i.study.uids.study: [series.uid for series in i.series] for i in selection.left}
    why = {reason: n for step in selection.book.steps for reason, n in step.reasons.items()}
    return left, why, selection.unmapped


def study_with(uid, *series, **facts):
    from hospitium.imaging.sources.queries import SeriesFound, StudyFound

    found = StudyFound(uids=Uids(study=uid), date="20200615", **facts)
    return found, [
        SeriesFound(study=uid, uid=f"{uid}.{n}", **{"modality": "MR", **one})
        for n, one in enumerate(series)
    ]


def test_masks_come_along_only_where_they_are_wanted():
    archive = Archive(
        study_with("1", {}, {"modality": "SEG"}), study_with("2", {"modality": "SEG"})
    )
    assert select_from(archive, Rules())[0] == {"1": ["1.0"]}
    assert select_from(archive, Rules(modalities=("MR",), with_masks=True))[0] == {
        "1": ["1.0", "1.1"]
    }


def test_body_parts_are_compared_without_case_and_missing_ones_are_told():
    archive = Archive(
        study_with("1", {"body_part": "Chest"}),
        study_with("2", {"body_part": "HEAD"}),
        study_with("3", {}),
    )
    left, why, _ = select_from(archive, Rules(body_parts=("CHEST",)))
    assert list(left) == ["1"]
    assert why == {"body_part_not_wanted": 1, "body_part_unknown": 1}


def test_descriptions_go_through_the_stewards_table_and_unknown_words_are_listed():
    archive = Archive(
        study_with("1", {"description": "T1 ax  KM"}, {"description": "scout"}),
        study_with("2", {"description": "T1 sag"}),
        study_with("3", {"description": "t2"}),
        study_with("4", {}, description="T1 AX KM"),
    )
    words = {"T1 ax KM": "t1 contrast", "t2": "t2", "scout": "scout"}
    rules = Rules(words=words, descriptions=("t1 contrast",))
    left, why, unmapped = select_from(archive, rules)
    assert left == {"1": ["1.0"], "4": ["4.0"]}
    assert why == {"description_not_wanted": 1, "description_unmapped": 1}
    assert unmapped == {"T1 sag": 1}


def test_ages_are_as_told_or_from_the_dates():
    archive = Archive(
        study_with("1", {"age": 40}),
        study_with("2", {}, birth_date="20020616"),
        study_with("3", {}, birth_date="20020615"),
        study_with("4", {}),
        study_with("5", {}, age=90),
    )
    left, why, _ = select_from(archive, Rules(ages=(18, 89)))
    assert list(left) == ["1", "3"]
    assert why == {"age_outside": 2, "age_unknown": 1}


# --- politeness ----------------------------------------------------------------------------------


def test_no_more_instances_are_fetched_in_a_second_than_the_settings_allow(filled, tmp_path, key):
    clock, pacs = Clock(), settings_of(filled.url, instances_per_s=4.0)
    pace = Pace(settings=pacs, clock=clock, sleep=clock.sleep)
    flow = fetch(pacs, tmp_path / "c", key, pace=pace)
    assert clock.seconds == pytest.approx((flow.num_instances - 1) / 4)


def test_nothing_is_asked_outside_the_time_window(filled, tmp_path, key):
    pacs = settings_of(filled.url, hours="20:00-06:00")
    noon = Pace(settings=pacs, now=lambda: datetime(2024, 1, 31, 12))
    with pytest.raises(PacsError, match="20:00 to 06:00"):
        fetch(pacs, tmp_path / "c", key, pace=noon)
    assert not filled.asked


def test_a_study_that_grows_is_fetched_when_it_is_quiet(filled, chests, tmp_path, key):
    clock, pacs = Clock(), settings_of(filled.url, quiet_s=60.0)
    study, series = next((uid, next(iter(some))) for uid, some in filled.files.items())
    arriving = dict(filled.files[study][series])
    raw = next(iter(arriving.values()))

    def grow():
        if len(filled.files[study][series]) < 2:
            filled.files[study][series]["1.2.3"] = raw.replace(
                next(iter(arriving)).encode(), b"1.2.3".ljust(len(next(iter(arriving))), b"\0")
            )

    clock.when_asleep = grow
    pace = Pace(settings=pacs, clock=clock, sleep=clock.sleep)
    flow = fetch(pacs, tmp_path / "c", key, pace=pace)
    assert clock.seconds >= 120
    assert flow.steps[-1].count_out == len(filled.studies)
    assert flow.num_instances == len(filled.studies) + 1


def test_a_study_that_never_stops_growing_is_left_out(filled, tmp_path, key):
    clock, pacs = Clock(), settings_of(filled.url, quiet_s=60.0)
    some = next(iter(next(iter(filled.files.values())).values()))

    def grow():
        some[f"1.2.{len(some)}"] = b""

    clock.when_asleep = grow
    flow = fetch(
        pacs, tmp_path / "c", key, pace=Pace(settings=pacs, clock=clock, sleep=clock.sleep)
    )
    assert reasons(flow) == {"complete at the PACS": {"incomplete_study": 1}}


# --- from Orthanc to training --------------------------------------------------------------------


@pytest.fixture
def secret(monkeypatch):
    monkeypatch.setenv("PACS_PASSWORD", PASSWORD)


@pytest.mark.ci
@pytest.mark.parametrize("kind", ["dicomweb", "dimse"])
def test_a_cohort_of_orthanc_is_ready_to_train(orthanc, chests, tmp_path, key, kind, secret):
    truth = {}
    with (chests / "labels.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            path = chests / row["image"]
            orthanc.store(path.read_bytes())
            truth[str(pydicom.dcmread(path).StudyInstanceUID)] = row["label"]
    rows = [("StudyInstanceUID", "label"), *truth.items(), ("1.2.3", "normal")]
    common = {"quiet_s": 0.0, "instances_per_s": 1000.0}
    pacs = (
        PacsSettings(
            kind=kind,
            url=f"{orthanc.url}/dicom-web",
            user=USER,
            password_env="PACS_PASSWORD",
            **common,
        )
        if kind == "dicomweb"
        else PacsSettings(
            kind=kind,
            host="127.0.0.1",
            port=orthanc.dicom_port,
            ae_title=AE_TITLE,
            our_ae_title=OUR_AE_TITLE,
            **common,
        )
    )
    labels = read_label_table(table(tmp_path, rows))
    rules = Rules(body_parts=("CHEST",))
    flow = fetch(pacs, tmp_path / "c", key, query=None, rules=rules, labels=labels)
    assert flow.label_rows["unmatched"] == 1
    harmonise = Harmonise(channels=1, size=(32, 32))
    found = read_source(tmp_path / "c", harmonise=harmonise, seed=1)
    direct = read_source(chests, harmonise=harmonise, seed=1)
    assert found.classes == direct.classes and len(found) == len(direct) == len(truth)
    assert digests_of(found) == digests_of(direct)
    assert np.unique(found.subjects).size == np.unique(direct.subjects).size


@pytest.mark.ci
def test_a_segmentation_comes_along_and_is_read_back(orthanc, tmp_path, key, secret):
    sites = (Site(site_id="alder", vendor="Alder"),)
    knobs = Knobs(prevalence=1.0)
    write_volumes(
        tmp_path / "mr", kind="mr", num_cases=1, seed=3, sites=sites, size=64, knobs=knobs
    )
    sent = sorted((tmp_path / "mr").rglob("*.dcm"))
    for path in sent:
        orthanc.store(path.read_bytes())
    pacs = settings_of(
        f"{orthanc.url}/dicom-web", user=USER, password_env="PACS_PASSWORD", quiet_s=0.5
    )
    rules = Rules(modalities=("MR",), with_masks=True)
    flow = fetch(pacs, tmp_path / "c", key, Query(modalities=("MR",)), rules)
    fetched = sorted((tmp_path / "c" / "files").rglob("*.dcm"))
    assert sorted(p.read_bytes() for p in fetched) == sorted(p.read_bytes() for p in sent)
    assert flow.num_series == 1 and flow.num_instances == len(sent) - 1
    here, there = mask_of(sent), mask_of(fetched)
    assert np.array_equal(here.labels, there.labels) and there.labels.any()


def mask_of(paths):
    """Return the mask among these files on the grid of the volume that the others are."""
    raws = [path.read_bytes() for path in paths]
    instances = [parse_dicom(raw) for raw in raws]
    volume = assemble([found for found in instances if not isinstance(found, Skip)])
    (mask,) = [raw for raw, found in zip(raws, instances, strict=True) if isinstance(found, Skip)]
    return read_seg(mask, volume=volume)


def test_a_data_set_is_fetched_by_its_name_and_goes_on(filled, tmp_path, key):
    home = Home(tmp_path / "home")
    (tmp_path / "pacs.toml").write_text(
        f'kind = "dicomweb"\nurl = "{filled.url}"\nquiet_s = 0\ninstances_per_s = 1000\n'
    )
    (tmp_path / "rules.toml").write_text('modalities = ["DX", "CR", "OT"]\n')
    labels = [("AccessionNumber", "finding")]
    labels += [(f"A{n}", "normal") for n in range(len(filled.studies))]
    call = {
        "pacs": tmp_path / "pacs.toml",
        "rules": tmp_path / "rules.toml",
        "labels": LabelFile(path=table(tmp_path, labels)),
    }
    flow, folder = fetch_data_set(home, "chest", **call)
    assert flow.num_fetched == flow.num_instances == len(filled.studies)
    assert find_data(home, "chest").path == folder.resolve()
    assert fetch_data_set(home, "chest", **call)[0].num_fetched == 0
    assert scan_data(home, find_data(home, "chest"), workers=0).num_files == flow.num_instances


def test_the_commands_probe_and_fetch(filled, tmp_path):
    (tmp_path / "pacs.toml").write_text(
        f'kind = "dicomweb"\nurl = "{filled.url}"\nquiet_s = 0\ninstances_per_s = 1000\n'
    )
    pacs, home = str(tmp_path / "pacs.toml"), ["--home", str(tmp_path / "home"), "site", "data"]
    probed = CliRunner().invoke(app, [*home, "probe", pacs])
    assert "stored transfer syntax: yes" in probed.output
    words = [*home, "fetch", "chest", "--pacs", pacs, "--query", "Modality=DX,CR"]
    told = CliRunner().invoke(app, words)
    assert "studies found" in told.output and "hospitium site data scan chest" in told.output
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert found["num_fetched"] == 0 < found["num_instances"] == found["steps"][-1]["count_out"]


def test_a_name_that_stands_for_other_files_is_refused_before_anything_is_asked(filled, tmp_path):
    home = Home(tmp_path / "home")
    (tmp_path / "other").mkdir()
    add_data_set(home, "chest", tmp_path / "other")
    (tmp_path / "pacs.toml").write_text(f'kind = "dicomweb"\nurl = "{filled.url}"\n')
    with pytest.raises(StateConflictError, match="another name"):
        fetch_data_set(home, "chest", pacs=tmp_path / "pacs.toml", query=["Modality=DX"])
    assert not filled.asked


@pytest.mark.ci
def test_two_hospitals_train_on_what_orthanc_gave_them(orthanc, tmp_path, key, secret):
    truth = write_phantoms(
        tmp_path / "made", num_subjects=48, seed=4, size=64, vendors=("Alder", "Birch")
    )
    rows = [("StudyInstanceUID", "label")]
    with truth.open(newline="") as stream:
        for row in csv.DictReader(stream):
            path = truth.parent / row["image"]
            orthanc.store(path.read_bytes())
            rows.append((str(pydicom.dcmread(path).StudyInstanceUID), row["label"]))
    labels = read_label_table(table(tmp_path, rows))
    pacs = settings_of(f"{orthanc.url}/dicom-web", user=USER, password_env="PACS_PASSWORD")
    for name, modality in (("oslo", "DX"), ("bergen", "CR")):
        rules = Rules(modalities=(modality,))
        flow = fetch(pacs, tmp_path / name, key, Query(modalities=(modality,)), rules, labels)
        assert flow.num_subjects == 24
    plan = replace(Plan(), model=ModelSection(name="logistic"), rounds=RoundsSection(count=2))
    (tmp_path / "plan.toml").write_text(to_toml(plan))
    (tmp_path / "sites.toml").write_text(
        '[sites.oslo]\ndata = "oslo"\n[sites.bergen]\ndata = "bergen"\n'
    )
    run = prepare_run(
        Home(tmp_path / "home"),
        plan_path=tmp_path / "plan.toml",
        sites_path=tmp_path / "sites.toml",
        run_id="from-pacs",
        plugin_path=None,
        out=tmp_path / "out",
        say=lambda event: None,
        command="test",
    )
    finish_run(run, say=lambda event: None, num_workers=1)
    assert (tmp_path / "out" / "model.safetensors").is_file()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "bergen" in json.dumps(report) and "oslo" in json.dumps(report)


def digests_of(cases):
    """Return image and label of every case, in no order."""
    return sorted(
        (hashlib.sha256(np.ascontiguousarray(image)).hexdigest(), int(label))
        for image, label in zip(cases.images, cases.labels, strict=True)
    )

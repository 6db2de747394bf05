"""From files to facts: tables, folders, volumes and archives, good and bad."""

import csv
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.errors import DataError
from hospitium.imaging.conformance import Capacity, Surroundings, gather, run_checks
from hospitium.imaging.conformance.case_facts import CaseFacts, Levels, MaskFacts
from hospitium.imaging.conformance.examining import Request, examine, from_bytes, to_bytes
from hospitium.imaging.conformance.labelling import class_indices
from hospitium.imaging.conformance.page import render_page
from hospitium.imaging.conformance.polarity import expects_chest, lung_contrast
from hospitium.imaging.conformance.sampling import sample_cases
from hospitium.imaging.instance import SKIP_REASONS, Facts, Skip, Uids
from hospitium.imaging.suppression import Suppression
from hospitium.plan.reading import parse_plan
from hospitium.testing.phantoms import VENDORS, write_phantoms

PLAN = parse_plan('name = "x"\n[imaging]\nsecondary_capture = "accept"')
ROOM = Surroundings(capacity=Capacity(free_bytes=1 << 40, device="cpu", step_s=0.01))


def checks_of(inventory, plan=PLAN):
    return {check.code: check for check in run_checks(inventory, plan, ROOM).checks}


def rows(count, **more):
    return [
        {"image": f"{n}.png", "label": ("normal", "pneumonia")[n % 2], **more} for n in range(count)
    ]


def test_a_table_gives_labels_subjects_and_planned_splits(make_folder):
    folder = make_folder([{**row, "subject": f"s{n // 2}"} for n, row in enumerate(rows(40))])
    found = gather(folder, plan=PLAN)
    assert len(found.cases) == 40
    assert Counter(case.classes for case in found.cases) == {(0,): 20, (1,): 20}
    splits = {}
    for case in found.cases:
        splits.setdefault(case.subject, set()).add(case.split)
    assert len(splits) == 20
    assert all(len(split) == 1 for split in splits.values())
    assert not found.labels.has_splits


def test_a_bad_image_is_counted_and_the_others_stay(make_folder):
    folder = make_folder(rows(10))
    (folder / "3.png").write_bytes(b"no picture")
    found = gather(folder, plan=PLAN)
    assert (len(found.cases), dict(found.skipped)) == (9, {"not_an_image": 1})
    assert found.details == (("not_an_image", "3.png"),)
    assert found.labels.num_unmatched == 0


def test_what_does_not_meet_is_counted_on_both_sides(make_folder, png):
    folder = make_folder(rows(10))
    (folder / "labels.csv").write_text(
        "image,label\n0.png,normal\n1.png,maybe\n2.png,NA\nnowhere.png,normal\n3.png,normal\n"
        "3.png,pneumonia\n4.png,normal\n4.png,normal\n"
    )
    labels = gather(folder, plan=PLAN).labels
    assert labels.num_unmatched == 1
    assert labels.num_unlabelled == 5
    assert dict(labels.unknown_words) == {"maybe": 1}
    assert gather(folder, plan=PLAN).skipped["label_conflict"] == 1
    assert checks_of(gather(folder, plan=PLAN))["C05"].status == "FAIL"


@pytest.mark.parametrize("key", ["StudyInstanceUID", "accession", "series_uid", "file"])
def test_a_table_may_name_studies_series_or_accessions(tmp_path, dicom, key):
    draw = np.random.default_rng(0)
    for number in range(6):
        values = draw.integers(0, 4095, (16, 16)).astype(np.uint16)
        uids = {"StudyInstanceUID": f"1.2.{number}", "SeriesInstanceUID": f"1.3.{number}",
                "AccessionNumber": f"A{number}", "SOPInstanceUID": f"1.4.{number}",
                "PatientID": f"P{number}"}  # fmt: skip
        (tmp_path / f"im{number}.dcm").write_bytes(dicom(values, BitsStored=12, **uids))
    named = {"StudyInstanceUID": "1.2.{}", "accession": "A{}", "series_uid": "1.3.{}",
             "file": "im{}.dcm"}[key]  # fmt: skip
    with (tmp_path / "truth.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([key, "label"])
        writer.writerows([[named.format(n), n % 2] for n in range(6)])
    found = gather(tmp_path, plan=PLAN, labels=tmp_path / "truth.csv")
    assert [case.classes for case in found.cases] == [(n % 2,) for n in range(6)]
    assert [case.uids.study for case in found.cases] == [f"1.2.{n}" for n in range(6)]
    assert found.labels.num_unmatched == 0


def test_a_folder_without_labels_is_a_finding_not_an_error(make_folder):
    folder = make_folder(rows(4))
    (folder / "labels.csv").unlink()
    checks = checks_of(gather(folder, plan=PLAN))
    assert checks["C05"].status == "FAIL"
    assert checks["C07"].status == "FAIL"
    assert checks["C03"].status == "PASS"


def test_workers_give_the_same_facts_as_this_process(make_folder):
    folder = make_folder(rows(6))
    assert gather(folder, plan=PLAN, num_workers=1) == gather(folder, plan=PLAN)


def test_phantoms_of_every_vendor_have_dark_lungs_and_turned_ones_are_found(tmp_path):
    plan = parse_plan('name = "x"\n[imaging]\nbody_parts = ["CHEST"]\nsecondary_capture = "accept"')
    write_phantoms(tmp_path, num_subjects=32, seed=3, size=64)
    contrasts = [case.lung_contrast for case in gather(tmp_path, plan=plan).cases]
    assert len(contrasts) >= 32
    assert min(contrasts) > 0.05
    assert {case.facts.manufacturer for case in gather(tmp_path, plan=plan).cases} == set(VENDORS)


def test_a_picture_and_its_negative_have_opposite_contrast():
    picture = np.random.default_rng(0).random((40, 30)).astype(np.float32)
    assert lung_contrast(picture) == pytest.approx(-lung_contrast(1 - picture), abs=1e-6)


@pytest.mark.parametrize(
    ("text", "is_chest"),
    [
        ("", True),
        ('[task]\nclasses = ["a", "b"]', False),
        ('[imaging]\nbody_parts = ["HAND"]', False),
        ('[task]\nclasses = ["a", "b"]\n[imaging]\nbody_parts = ["CHEST"]', True),
        ("[imaging.pipeline]\nchannels = 3", False),
    ],
)
def test_a_chest_plan_says_so_or_asks_for_a_finding_of_the_chest(text, is_chest):
    assert expects_chest(parse_plan(f'name = "x"\n{text}')) == is_chest


def write_npz(path, *, labels=None, **images):
    arrays = {f"{split}_images": stored for split, stored in images.items()}
    arrays |= {
        f"{split}_labels": (np.arange(len(stored)) % 2)[:, None] if labels is None else labels
        for split, stored in images.items()
    }
    np.savez(path, **arrays)


def test_an_archive_without_images_or_labels_says_so(tmp_path):
    np.savez(tmp_path / "a.npz", other=np.zeros(3))
    with pytest.raises(DataError, match="no train_images"):
        gather(tmp_path / "a.npz", plan=PLAN)
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)
    np.savez(tmp_path / "b.npz", train_images=images)
    assert checks_of(gather(tmp_path / "b.npz", plan=PLAN))["C05"].status == "FAIL"
    write_npz(tmp_path / "c.npz", train=images, labels=np.full((6, 1), 7))
    assert dict(gather(tmp_path / "c.npz", plan=PLAN).labels.unknown_words) == {"7": 6}


def test_equal_pixels_are_equal_in_any_file_and_colour_is_measured_as_grey(tmp_path, png):
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    write_npz(tmp_path / "a.npz", train=images)
    colour = parse_plan('name = "x"\n[imaging.pipeline]\nchannels = 3')
    found = gather(tmp_path / "a.npz", plan=colour)
    assert len({case.digest for case in found.cases}) == 4
    (tmp_path / "one.png").write_bytes(png(images[2]))
    one = examine(
        Request(name="one.png", kind="image", paths=(str(tmp_path / "one.png"),)), plan=colour
    )
    assert one.digest == found.cases[2].digest


def test_the_cases_of_a_trial_step_are_those_that_were_checked(make_folder, tmp_path):
    folder = make_folder(rows(40))
    images, labels = sample_cases(folder, gather(folder, plan=PLAN), plan=PLAN)
    assert images.shape[1:] == (1, 28, 28)
    assert len(images) == len(labels) >= 20
    assert 0 <= images.min() < images.max() <= 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["normal", "Pneumonia", "0", "1", "NA", "", "tumour", "2"])))
def test_every_word_is_a_class_no_label_or_unknown(words):
    known, unknown = class_indices(words, ("normal", "pneumonia"))
    assert set(known) | set(unknown) == set(words)
    assert not set(known) & set(unknown)
    assert set(unknown) <= {"tumour", "2", "0", "1"}
    assert sum(unknown.values()) == sum(word in unknown for word in words)


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)


@settings(max_examples=30, deadline=None)
@given(TEXT, st.binary(max_size=9), st.sampled_from([None, MaskFacts(values=(1, 2), notes=("a",))]),
       st.floats(-1e6, 1e6), st.sampled_from([None, (1.0, 2.0, 3.0)]))  # fmt: skip
def test_an_answer_of_a_worker_arrives_as_it_was_sent(name, thumbnail, mask, level, spacing):
    facts = Facts(modality="", manufacturer=name, rows=1, columns=2, bits_stored=8,
                  photometric="", spacing_mm=None, image_type=("A", "B"))  # fmt: skip
    levels = Levels(low=level, middle=level, high=level)
    case = CaseFacts(name=name, facts=facts, shape=(1, 2), levels=levels, harmonised=levels,
                     digest="d", hash=(1 << 64) - 1, thumbnail=thumbnail, mask=mask,
                     spacing_mm=spacing, uids=Uids(study=name))  # fmt: skip
    assert from_bytes(to_bytes(case)) == case
    skips = [Skip(reason=reason, detail=name) for reason in SKIP_REASONS]
    assert [from_bytes(to_bytes(skip)) for skip in skips] == skips


def test_the_page_is_whole_holds_pictures_and_escapes_what_comes_from_the_data(make_folder):
    table = rows(12)
    table[3]["image"] = "<script>alert(1)<%2Fscript>.png"
    folder = make_folder(table)
    (folder / "4.png").write_bytes((folder / "5.png").read_bytes())
    report = run_checks(gather(folder, plan=PLAN), PLAN, ROOM, data="<b>set</b>")
    page = render_page(report, suppression=Suppression())
    assert "<script" not in page
    assert "<b>set" not in page
    assert page.count("data:image/png;base64,") >= 2
    assert "http" not in page.replace("http-equiv", "")
    assert all(check.name in page for check in report.checks)
    assert json.loads(json.dumps(report.as_json(Suppression())))["status"] == report.status

"""The data fingerprint: histograms that add up, and nothing small that leaves."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.errors import DataError, UsageError
from hospitium.imaging.fingerprint.data import (
    Capacity,
    Fingerprint,
    add,
    fingerprint_of,
    fingerprint_of_images,
    total,
)
from hospitium.imaging.fingerprint.histograms import (
    FIELDS,
    NONE,
    OTHER,
    field_of,
    quantile,
    quantile_bin,
)
from hospitium.imaging.fingerprint.measuring import Picture, measure, otsu, vote
from hospitium.imaging.fingerprint.proposal import propose
from hospitium.imaging.fingerprint.release import (
    explain,
    from_bytes,
    suppress,
    to_bytes,
    withhold,
)
from hospitium.imaging.instance import Facts

_NAMES = ("spacing_mm.0", "matrix.0", "sex", "class", "mask_volume_ml.1")
_CELLS = {
    "spacing_mm.0": [str(n) for n in range(32)],
    "matrix.0": ["0", "7", "31"],
    "sex": ["F", "M", "O"],
    "class": ["normal", "pneumonia", "other finding"],
    "mask_volume_ml.1": ["empty", "3", "4", "20"],
}


@st.composite
def votes(draw):
    names = draw(st.sets(st.sampled_from(_NAMES)))
    return {name: draw(st.sampled_from(_CELLS[name])) for name in sorted(names)}


subjects = st.lists(votes(), max_size=60)


def _facts(**more) -> Facts:
    given = {
        "modality": "CT", "manufacturer": "SIEMENS", "rows": 4, "columns": 4, "bits_stored": 12,
        "photometric": "MONOCHROME2", "spacing_mm": (1.0, 1.0),
    }  # fmt: skip
    return Facts(**{**given, **more})


# --- sums ----------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(subjects, subjects)
def test_the_sum_of_two_sites_is_the_fingerprint_of_all_their_subjects(first, second):
    assert add(fingerprint_of(first), fingerprint_of(second)) == fingerprint_of(first + second)


@settings(max_examples=30, deadline=None)
@given(subjects)
def test_each_subject_has_one_vote_in_each_field(found):
    fingerprint = fingerprint_of(found)
    assert set(fingerprint.counts) >= set(FIELDS)
    assert {sum(cells.values()) for cells in fingerprint.counts.values()} == {len(found)}


def test_ten_images_of_one_person_are_one_vote_whatever_their_order():
    images = [{"sex": "F", "matrix.0": str(n)} for n in range(10)]
    found = fingerprint_of_images([("anna", one) for one in images[::-1]] + [("ben", {"sex": "M"})])
    assert found.num_subjects == 2
    assert found.counts["matrix.0"] == {"4": 1, NONE: 1}
    assert vote(images) == vote(images[::-1])


# --- suppression ---------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(subjects, st.integers(10, 25))
def test_no_count_from_1_to_9_leaves_and_no_field_gives_one_back(found, least):
    shown = suppress(fingerprint_of(found), least=least)
    for cells in shown.counts.values():
        assert all(count >= least for count in cells.values())
        assert sum(cells.values()) == shown.num_subjects  # so a difference tells nothing
    assert shown.num_subjects in (0, len(found)) and (shown.num_subjects or len(found) < least)


def test_a_site_may_raise_the_least_count_and_never_lower_it():
    with pytest.raises(UsageError, match="never lower"):
        suppress(fingerprint_of([{}] * 30), least=9)


def test_bins_with_few_subjects_are_counted_nearby_so_that_quantiles_hold():
    field = FIELDS["spacing_mm.0"]
    raw = Counter({"10": 40, "11": 4, "12": 60, "16": 80, "25": 3, "31": 2})
    found = fingerprint_of([{"spacing_mm.0": cell} for cell in raw.elements()])
    shown = suppress(found).counts["spacing_mm.0"]
    assert set(shown) == {"10", "12", "16"}
    for share in (0.1, 0.5, 0.9):
        assert quantile_bin(field, shown, share) == quantile_bin(field, raw, share)


def test_rare_names_are_counted_together_and_not_alone():
    found = fingerprint_of([{"sex": s} for s in "F" * 40 + "M" * 20 + "O" * 3])
    assert suppress(found).counts["sex"] == {"F": 40, OTHER: 23}


def test_a_withheld_field_says_nothing():
    found = suppress(fingerprint_of([{"sex": "F"}] * 20))
    assert withhold(found, ["sex"]).counts["sex"] == {NONE: 20}
    assert b"sex" not in to_bytes(withhold(found, ["sex"]))
    with pytest.raises(UsageError, match="no field 'name'"):
        withhold(found, ["name"])


# --- the bytes -----------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(subjects)
def test_the_bytes_read_back_and_are_the_same_for_the_same_counts(found):
    shown = suppress(fingerprint_of(found, capacity=Capacity(memory_gib=32.0, cores=8)))
    raw = to_bytes(shown)
    back = from_bytes(raw, where="a site")
    assert (
        to_bytes(back)
        == raw
        == to_bytes(suppress(fingerprint_of(found[::-1], capacity=shown.capacity[0])))
    )
    assert back.of("sex") == shown.of("sex") and back.capacity == shown.capacity  # fmt: skip


def test_the_words_show_every_number_that_is_in_the_bytes():
    found = suppress(
        fingerprint_of(
            [{"sex": "F", "matrix.0": "18", "class": "a"}] * 30, capacity=Capacity(cores=4)
        )
    )
    document = json.loads(to_bytes(found))
    shown = {row["field"]: {c["cell"]: c["count"] for c in row["cells"]} for row in explain(found)}
    assert {name: shown[name] for name in document["counts"]} == document["counts"]
    assert shown["num_subjects"][""] == document["num_subjects"]
    assert [{"cores": shown["cores"][""]}] == document["capacity"]
    assert all(row["words"] for row in explain(found))


def _spoilt(**changes):
    document = json.loads(to_bytes(suppress(fingerprint_of([{"sex": "F"}] * 30))))
    return json.dumps({**document, **changes}).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"\xff" * 9,
        b"[" * 90_000,
        b" " * (1 << 21),
        _spoilt(kind="update"),
        _spoilt(version=99),
        _spoilt(least=3),
        _spoilt(num_subjects=7),
        _spoilt(counts={"sex": {"F": 21, "M": 9}}),
        _spoilt(counts={"sex": {"F": 29}}),
        _spoilt(counts={"sex": {"F": 30.0}}),
        _spoilt(counts={"sex": {"F": True}}),
        _spoilt(counts={"sex": {"Jane Doe": 30}}),
        _spoilt(counts={"manufacturer": {"Jane Doe": 30}}),
        _spoilt(counts={"patient": {"F": 30}}),
        _spoilt(counts={"matrix.0": {"32": 30}}),
        _spoilt(counts={"matrix.0": {"٣": 30}}),
        _spoilt(counts={"mask_volume_ml.99": {"1": 30}}),
        _spoilt(counts=[]),
        _spoilt(capacity=[{"memory_gib": "much"}]),
        _spoilt(capacity=[{"memory_gib": -1}]),
        _spoilt(note="hello"),
    ],
)
def test_what_is_no_suppressed_fingerprint_is_refused(raw):
    with pytest.raises(DataError, match="oslo: found"):
        from_bytes(raw, where="oslo")


def test_only_known_words_of_a_header_are_counted():
    facts = _facts(manufacturer="Jane Doe 1970-01-01", modality="XYZ", sex="Jane", age_band="Doe")
    votes = measure(Picture(values=np.arange(16.0).reshape(4, 4), facts=facts))
    told = {votes[name] for name in ("manufacturer", "modality", "sex", "age_band")}
    assert told == {OTHER}
    assert all(field_of(name).has(cell) for name, cell in votes.items())


# --- measuring -----------------------------------------------------------------------------------


def test_a_volume_is_measured_in_its_own_units():
    values = np.zeros((10, 20, 30))
    values[2:8] = 40.0
    mask = np.zeros(values.shape, np.uint8)
    mask[2:6] = 1
    picture = Picture(values=values, spacing_mm=(1.0, 1.0, 2.0), mask=mask, facts=_facts())
    votes = measure(replace(picture, labels=(1, 2)))
    said = {name: field_of(name).say(cell) for name, cell in votes.items()}
    assert said["spacing_mm.0"] == "0.912 to 1.1 mm" and said["matrix.2"] == "28.5 to 35.9 pixels"
    assert said["hu.p50"] == "15.6 to 81.2 HU" and said["foreground"] == "0.4 to 0.45"
    low, high = (float(word) for word in said["mask_volume_ml.1"].split()[:3:2])
    assert low <= 4 * 20 * 30 * 2 / 1000 < high
    assert said["mask_volume_ml.2"] == "empty" and said["manufacturer"] == "Siemens"


def test_another_scale_of_the_same_image_changes_the_scale_and_nothing_else():
    values = np.random.default_rng(3).gamma(2.0, 100.0, (64, 64))
    first, second = (measure(Picture(values=values * factor)) for factor in (1.0, 37.0))
    assert {name for name in first if first[name] != second[name]} == {"scale"}


def test_otsu_parts_two_groups_as_a_slow_search_does():
    rng = np.random.default_rng(5)
    values = np.concatenate([rng.normal(0, 1, 700), rng.normal(9, 2, 300)])
    edges = np.linspace(values.min(), values.max(), 257)[1:-1]
    inner = [
        sum(len(part) * part.var() for part in (values[values <= t], values[values > t]))
        for t in edges
    ]
    assert abs(otsu(values) - edges[int(np.argmin(inner))]) < 0.3


def test_values_that_are_no_numbers_and_constant_images_are_measured_too():
    broken = np.full((4, 4), np.nan)
    assert "scale" not in measure(Picture(values=broken))
    assert measure(Picture(values=np.ones((4, 4))))["foreground"] == "0"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.06, 14), min_size=30, max_size=90), st.sampled_from([0.1, 0.5, 0.9]))
def test_a_quantile_of_the_histogram_is_within_a_bin_of_the_true_one(values, share):
    field = FIELDS["spacing_mm.0"]
    counts = Counter(field.cell(value) for value in values)
    true = sorted(values)[max(0, int(np.ceil(share * len(values))) - 1)]
    assert quantile(field, counts, share) == pytest.approx(true, rel=0.21)
    assert quantile_bin(field, counts, share) == pytest.approx(true, rel=0.1)


# --- the proposal --------------------------------------------------------------------------------


def _site(number: int, **said) -> Fingerprint:
    votes = {name: field_of(name).cell(value) for name, value in said.items()}
    return fingerprint_of([votes] * number)


def test_anisotropic_volumes_get_the_tenth_percentile_on_the_coarse_axis():
    thin = {"spacing_mm.0": 1.0, "spacing_mm.1": 1.0, "matrix.0": 256, "matrix.1": 256}
    sites = [
        _site(15, **thin, **{"spacing_mm.2": 2.0, "matrix.2": 80}),
        _site(85, **thin, **{"spacing_mm.2": 5.2, "matrix.2": 32}),
    ]
    proposal = propose(total(sites))
    assert proposal.imaging.kind == "volume"
    assert proposal.imaging.pipeline.spacing_mm == (1.0, 1.0, 2.1)
    assert "percentile 10 on axis 3" in " ".join(one.reason for one in proposal.values)


def test_ct_gets_hounsfield_units_of_all_sites_together():
    hu = {"hu.p0.5": -960, "hu.p25": -50, "hu.p50": 40, "hu.p75": 90, "hu.p99.5": 400}
    size = {"matrix.0": 512, "matrix.1": 512, "matrix.2": 100}
    steps = propose(_site(40, **hu, **size)).imaging.pipeline
    assert steps.intensity == "pooled"
    assert steps.window == pytest.approx((-960, 400), abs=66)
    assert steps.mean == pytest.approx(40, abs=66)


def test_radiographs_get_percentiles_a_bounded_size_and_weights_of_their_classes():
    image = {"matrix.0": 2048, "matrix.1": 2048, "modality": "DX", "colour": "no"}
    found = add(_site(30, **image, **{"class": "ill"}), _site(90, **image, **{"class": "well"}))
    proposal = propose(found)
    assert proposal.imaging.pipeline.size == (512, 512)
    assert proposal.imaging.pipeline.intensity == "percentile"
    assert proposal.imaging.modalities == ("DX",)
    assert dict(zip(proposal.classes, proposal.class_weights, strict=True)) == {
        "ill": 2.0,
        "well": 0.666667,
    }
    assert all(one.reason for one in proposal.values)


def test_digitised_film_is_proposed_with_its_condition():
    size = {"matrix.0": 512, "matrix.1": 512}
    found = add(_site(30, **size, modality="OT"), _site(30, **size, modality="CR"))
    section = propose(found).imaging
    assert section.modalities == ("CR", "OT") and section.secondary_capture == "accept"


def test_a_patch_fits_the_smallest_machine():
    size = {"matrix.0": 512, "matrix.1": 512, "matrix.2": 128}
    spaced = {"spacing_mm.0": 1.0, "spacing_mm.1": 1.0, "spacing_mm.2": 1.0}
    found = _site(40, **size, **spaced)
    machines = (Capacity(gpu_memory_gib=24.0), Capacity(gpu_memory_gib=4.0))
    small = propose(replace(found, capacity=machines)).imaging.pipeline.size
    large = propose(replace(found, capacity=machines[:1])).imaging.pipeline.size
    assert np.prod(small) < np.prod(large) < 512 * 512 * 128
    assert small[0] == small[1] > small[2]


def test_too_few_subjects_give_no_proposal():
    with pytest.raises(DataError, match="fewer than ten"):
        propose(suppress(_site(5, **{"matrix.0": 64, "matrix.1": 64})))

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.errors import PartitionError, UsageError
from hospitium.imaging.cases import Cases
from hospitium.testing.partition import Federation, describe, make_federation, parse_partition


def make_cases(num: int = 900, *, seed: int = 0, per_subject: int = 3, classes: int = 2) -> Cases:
    """Cases whose image holds their own number, so that they can be told apart."""
    draw = np.random.default_rng(seed)
    people = draw.integers(0, num // per_subject, num) if per_subject > 1 else np.arange(num)
    split_of = draw.choice(3, size=people.max() + 1, p=(0.6, 0.15, 0.25))
    marks = ((np.arange(num) + 1) / (num + 1)).astype(np.float32)
    return Cases(
        images=np.broadcast_to(marks[:, None, None, None], (num, 1, 4, 4)).copy(),
        labels=draw.choice(classes, size=num).astype(np.int64),
        subjects=np.array([f"person {number}" for number in people]),
        splits=split_of[people].astype(np.uint8),
        classes=tuple("abcdefg"[:classes]),
        columns={"site": np.array([f"Ward {number % 3}" for number in people])},
    )


def marks(cases: Cases) -> list[float]:
    return sorted(cases.images[:, 0, 0, 0].tolist())


def share(cases: Cases, text: str, *, num_sites: int = 4, seed: int = 1) -> Federation:
    return make_federation(cases, partition=parse_partition(text), num_sites=num_sites, seed=seed)


@settings(max_examples=25, deadline=None)
@given(
    text=st.sampled_from(["iid", "dirichlet:0.1", "dirichlet:2", "size:5"]),
    num_sites=st.integers(1, 4),
    seed=st.integers(0, 10**6),
    per_subject=st.integers(1, 4),
)
def test_every_case_is_at_one_site_and_no_subject_at_two(
    text: str, num_sites: int, seed: int, per_subject: int
) -> None:
    cases = make_cases(seed=seed, per_subject=per_subject)
    sites = share(cases, text, num_sites=num_sites, seed=seed).sites
    assert sorted(mark for own in sites.values() for mark in marks(own)) == marks(cases)
    people = [person for own in sites.values() for person in set(own.subjects.tolist())]
    assert len(people) == len(set(people))


@settings(max_examples=25, deadline=None)
@given(
    alpha=st.sampled_from([0.01, 0.1, 0.5, 5]),
    num_sites=st.integers(2, 5),
    seed=st.integers(0, 10**6),
    per_subject=st.integers(1, 3),
)
def test_dirichlet_leaves_every_site_its_minimums(
    alpha: float, num_sites: int, seed: int, per_subject: int
) -> None:
    cases = make_cases(seed=seed, per_subject=per_subject)
    for own in share(cases, f"dirichlet:{alpha}", num_sites=num_sites, seed=seed).sites.values():
        assert len(own.split("train")) >= 40
        assert min(own.split("train").class_counts().values()) >= 8
        assert min(own.split("test").class_counts().values()) >= 8
        assert min(own.split("val").class_counts().values()) >= 2


def test_dirichlet_can_give_every_site_exactly_the_minimum() -> None:
    splits = np.repeat(np.array([0, 2], np.uint8), (200, 80))
    cases = Cases(
        images=np.zeros((280, 1, 1, 1), np.float32),
        labels=np.arange(280) % 2,
        subjects=np.arange(280).astype(np.str_),
        splits=splits,
        classes=("a", "b"),
    )
    rows = describe(share(cases, "dirichlet:0.1", num_sites=5))
    assert [row["test"] for row in rows] == [{"a": 8, "b": 8}] * 5
    assert [row["num_cases"] for row in rows] == [56] * 5


def test_a_small_dirichlet_parameter_makes_sites_unlike() -> None:
    def spread(text: str) -> float:
        sites = share(make_cases(3000, per_subject=1), text).sites.values()
        return float(np.std([own.labels.mean() for own in sites]))

    assert spread("dirichlet:0.3") > 0.1 > 0.03 > spread("iid")


def test_too_few_cases_are_an_error_with_the_numbers() -> None:
    with pytest.raises(
        PartitionError, match=r"found \d+ against 8 train cases of class 'a' for each of 99"
    ):
        share(make_cases(), "dirichlet:0.5", num_sites=99)
    with pytest.raises(PartitionError, match="whole subjects do not fit"):
        share(make_cases(900, per_subject=200), "dirichlet:0.5", num_sites=3)
    with pytest.raises(PartitionError, match=r"found \d against 1 train cases for each of 9"):
        share(make_cases(5), "iid", num_sites=9)


@pytest.mark.parametrize("text", ["scanner", "dirichlet:0.5+scanner", "size:3+scanner"])
def test_same_seed_same_federation_and_another_seed_another(text: str) -> None:
    first, again = (share(make_cases(), text) for _ in range(2))
    assert describe(first) == describe(again)
    for site_id, own in first.sites.items():
        assert np.array_equal(own.images, again.sites[site_id].images)
    assert describe(share(make_cases(), text, seed=2)) != describe(first)


def test_scanner_shifts_a_sites_own_cases_and_not_the_joint_test() -> None:
    cases = make_cases()
    plain, shifted = share(cases, "iid"), share(cases, "scanner")
    assert np.array_equal(shifted.joint_test.images, cases.split("test").images)
    assert set(shifted.shifts) == set(shifted.sites) and not plain.shifts
    for site_id, own in shifted.sites.items():
        assert np.array_equal(own.subjects, plain.sites[site_id].subjects)
        for split in ("train", "val", "test"):
            before = plain.sites[site_id].split(split).images
            assert not np.array_equal(own.split(split).images, before)


def test_iid_is_even_in_every_split_and_class() -> None:
    sites = share(make_cases(1000, per_subject=1), "iid", num_sites=7).sites.values()
    assert max(map(len, sites)) - min(map(len, sites)) < 12
    tests = [own.split("test").class_counts()["b"] for own in sites]
    assert max(tests) - min(tests) <= 5


def test_size_skew_falls_in_geometric_steps() -> None:
    sites = share(make_cases(7000, per_subject=1), "size:4", num_sites=3).sites
    assert [round(len(own) / 1000, 1) for own in sites.values()] == [4, 2, 1]


def test_site_ids_sort_as_they_count() -> None:
    sites = share(make_cases(), "iid", num_sites=12).sites
    assert list(sites) == sorted(sites)
    assert {"site-01", "site-12"} < set(sites)


def test_a_column_gives_sites_as_they_are() -> None:
    cases = make_cases()
    federation = share(cases, "column:site")
    assert list(federation.sites) == ["ward-0", "ward-1", "ward-2"]
    assert set(federation.sites["ward-1"].columns["site"]) == {"Ward 1"}
    assert marks(federation.joint_test) == marks(cases.split("test"))


def test_sites_of_a_column_without_training_cases_are_left_out_and_counted() -> None:
    cases = make_cases()
    names = np.where(cases.splits == 2, "Only Tests", " Ward  A ")
    names[:5] = ""
    federation = share(replace(cases, columns={"site": names}), "column:site")
    assert list(federation.sites) == ["ward-a"]
    assert federation.left_out == {"site_without_training_cases": 1, "case_without_site": 5}
    assert "1 site_without_training_cases" in federation.description


def test_a_site_may_have_one_class_and_one_case() -> None:
    cases = make_cases(per_subject=1)
    only = np.flatnonzero((cases.splits == 0) & (cases.labels == 1))[:1]
    cases.columns["site"][only] = "tiny"
    rows = {row["site_id"]: row for row in describe(share(cases, "column:site"))}
    assert rows["tiny"]["train"] == {"a": 0, "b": 1}
    assert rows["tiny"]["test"] == {"a": 0, "b": 0}


def test_a_missing_column_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(PartitionError, match="its columns: site"):
        share(make_cases(), "column:hospital")


@pytest.mark.parametrize(
    "text",
    ["", "IID", "dirichlet", "dirichlet:0", "dirichlet:-1", "dirichlet:nan", "dirichlet:inf",
     "size:0.5", "size:2+blur", "column:", "iid:3", "scanner+iid", "dirichlet:1+scanner+scanner"],
)  # fmt: skip
def test_what_is_no_partition_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(UsageError, match="dirichlet:A"):
        parse_partition(text)


def test_fewer_than_one_site_is_refused() -> None:
    with pytest.raises(UsageError, match="found 0 sites"):
        share(make_cases(), "iid", num_sites=0)


def test_the_description_can_be_written_as_json() -> None:
    federation = share(make_cases(), "dirichlet:0.5+scanner")
    rows = json.loads(json.dumps(describe(federation)))
    assert sum(row["num_cases"] for row in rows) == 900
    assert {"gain", "offset", "gamma", "blur_px", "noise"} == set(rows[0]["shift"])
    assert federation.description.startswith("900 cases of ")

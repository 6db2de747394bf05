from dataclasses import replace

import numpy as np
import pytest

from hospitium.errors import DataError
from hospitium.imaging.cases import Cases, concatenate


@pytest.fixture
def cases() -> Cases:
    return Cases(
        images=np.arange(16, dtype=np.float32).reshape(4, 1, 2, 2),
        labels=np.array([0, 1, 1, 0]),
        subjects=np.array(list("abcd")),
        splits=np.array([0, 0, 1, 2], np.uint8),
        classes=("no", "yes"),
        columns={"site": np.array(list("xxyy"))},
        skipped={"no_label": 2},
        notes={"inverted": 1},
    )


def test_a_split_holds_its_own_cases_side_by_side(cases):
    train = cases.split("train")
    assert train.subjects.tolist() == ["a", "b"]
    assert train.columns["site"].tolist() == ["x", "x"]
    assert train.class_counts() == {"no": 1, "yes": 1}
    assert (train.skipped, train.notes) == ({}, {})


def test_joined_cases_add_their_counts_and_keep_shared_columns(cases):
    joined = concatenate([cases, replace(cases, columns={}, skipped={"truncated": 1})])
    assert len(joined) == 8
    assert joined.columns == {}
    assert joined.skipped == {"no_label": 2, "truncated": 1}
    assert joined.notes == {"inverted": 2}


def test_cases_of_other_classes_are_not_joined(cases):
    with pytest.raises(DataError, match="cannot be joined"):
        concatenate([cases, replace(cases, classes=("yes", "no"))])
    with pytest.raises(DataError, match="No cases"):
        concatenate([])

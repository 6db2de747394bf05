import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hospitium.errors import DataError
from hospitium.imaging.splitting import assign_splits, complete_splits, join_duplicates

people = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), min_size=3, max_size=120)


@given(people, st.integers(0, 99))
def test_a_subject_is_in_exactly_one_split_and_none_is_empty(cases, seed):
    subjects, labels = [f"p{person}" for person, _ in cases], [label for _, label in cases]
    splits = assign_splits(subjects=subjects, labels=labels, seed=seed)
    assert len(set(zip(subjects, splits.tolist(), strict=True))) == len(set(subjects))
    if len(set(subjects)) >= 3:
        assert set(splits.tolist()) == {0, 1, 2}


def test_new_subjects_of_a_large_class_do_not_move_old_ones():
    subjects = [f"p{number}" for number in range(400)]
    before = assign_splits(subjects=subjects[:200], labels=[0] * 200, seed=1)
    after = assign_splits(subjects=subjects, labels=[0] * 400, seed=1)
    np.testing.assert_array_equal(before, after[:200])


def test_the_fractions_are_met_and_another_seed_gives_other_splits():
    subjects = [f"p{number}" for number in range(3000)]
    first, second = (assign_splits(subjects=subjects, labels=[0] * 3000, seed=s) for s in (1, 2))
    np.testing.assert_allclose(np.bincount(first) / 3000, [0.7, 0.1, 0.2], atol=0.03)
    assert (first != second).mean() > 0.3


def test_a_small_class_is_shared_out_exactly():
    splits = assign_splits(subjects=[f"p{n}" for n in range(40)], labels=[0] * 40, seed=5)
    assert np.bincount(splits).tolist() == [28, 4, 8]


@pytest.mark.parametrize(("count", "expected"), [(1, [1]), (2, [1, 0, 1]), (3, [1, 1, 1])])
def test_a_tiny_class_serves_training_then_test_then_validation(count, expected):
    splits = assign_splits(
        subjects=[f"p{n}" for n in range(90 + count)], labels=[0] * 90 + [1] * count, seed=3
    )
    assert np.bincount(splits[90:]).tolist() == expected


def test_a_missing_validation_part_comes_from_training_by_subject():
    given_splits = np.array([0] * 80 + [2] * 20, np.uint8)
    subjects = [f"p{number // 2}" for number in range(100)]
    splits, notes = complete_splits(
        splits=given_splits, subjects=subjects, labels=[0] * 100, seed=1
    )
    assert (splits[80:] == 2).all()
    assert np.bincount(splits).tolist() == [70, 10, 20]
    assert notes == ("val_taken_from_train",)


def test_too_few_subjects_are_refused_by_name():
    with pytest.raises(DataError, match="no cases for val"):
        complete_splits(
            splits=np.array([0, 0, 2], np.uint8), subjects="aab", labels=[0, 0, 1], seed=1
        )


def test_equal_images_join_their_subjects_through_any_chain():
    joined, num_copies = join_duplicates(subjects="abcd", digests=[b"1", b"2", b"1", b"3"])
    assert joined == ["a", "b", "a", "d"]
    assert num_copies == 1
    chained, _ = join_duplicates(subjects="dbbaac", digests=[b"9", b"1", b"2", b"2", b"3", b"3"])
    assert chained == ["d", "b", "b", "b", "b", "b"]

import pytest

from hospitium.errors import DataError
from hospitium.imaging.sources.labels import encode_labels, encode_splits


def encoded(*values: str):
    labels, classes = encode_labels(values, where="here")
    return labels.tolist(), classes


def test_numbers_are_sorted_as_numbers():
    assert encoded("10", "2", "02", "2.0") == ([1, 0, 0, 0], ("2", "10"))


@pytest.mark.parametrize(
    "normal", ["Normal", "No Finding", "no_finding", "Negative", "no", "benign"]
)
def test_of_two_classes_the_negative_one_is_first(normal):
    labels, classes = encoded("abscess", normal)
    assert (labels, classes) == ([1, 0], (normal, "abscess"))


def test_other_words_are_in_alphabetical_order_whatever_their_case():
    assert encoded("viral", "Bacterial ", "VIRAL") == ([1, 0, 1], ("Bacterial", "viral"))


def test_three_classes_stay_alphabetical_even_with_a_normal_one():
    assert encoded("normal", "covid", "other")[1] == ("covid", "normal", "other")


@pytest.mark.parametrize("missing", ["", " ", "-1", "-1.0", "?", "NA", "nan"])
def test_no_label_is_no_class(missing):
    assert encoded("0", missing, "1") == ([0, -1, 1], ("0", "1"))


def test_one_class_or_a_measurement_is_refused():
    with pytest.raises(DataError, match=r"1 different labels found.*only 'yes'"):
        encoded("yes", "yes", "")
    with pytest.raises(DataError, match="300 different labels"):
        encoded(*(str(number) for number in range(300)))


def test_usual_names_of_splits_are_known():
    words = ["Training", "tr", "valid", "dev", "TUNE", "holdout", "Testing", "fold 3", ""]
    assert encode_splits(words) == [0, 0, 1, 1, 1, 2, 2, None, None]


def test_given_classes_are_matched_by_name_whatever_their_order_here():
    encoded, classes = encode_labels(
        ["bacterial", "Viral", "viral"], where="t", classes=("viral", "bacterial")
    )
    assert encoded.tolist() == [1, 0, 0]
    assert classes == ("viral", "bacterial")


def test_given_classes_are_matched_by_number_where_the_labels_are_numbers():
    encoded, _ = encode_labels(["1", "0", "-1"], where="t", classes=("normal", "pneumonia"))
    assert encoded.tolist() == [1, 0, -1]


def test_with_given_classes_a_site_may_have_one_of_them_but_none_that_is_not_agreed():
    encoded, _ = encode_labels(["normal"], where="t", classes=("normal", "pneumonia"))
    assert encoded.tolist() == [0]
    with pytest.raises(DataError, match="t: 'fracture' \\(1 x\\): none of the plan's classes"):
        encode_labels(["normal", "fracture"], where="t", classes=("normal", "pneumonia"))

"""Where elements are: as pydicom finds them, and within bounds."""

import io
import warnings
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from steps import steps_of

from hospitium.imaging.elements import Elements
from hospitium.imaging.instance import Limits, SkipError
from hospitium.imaging.parsing import parse
from hospitium.imaging.walking import Walker

SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
SEQUENCE = bytes.fromhex("0800 4011") + b"SQ\0\0\xff\xff\xff\xff"
ITEM = bytes.fromhex("feff 00e0 ffffffff")
ITEM_END, SEQUENCE_END = bytes.fromhex("feff 0de0 00000000"), bytes.fromhex("feff dde0 00000000")


def saved(dataset: Dataset, syntax: str) -> bytes:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def nested(depth: int) -> bytes:
    return (SEQUENCE + ITEM) * depth + (ITEM_END + SEQUENCE_END) * depth


def walk(raw: bytes) -> dict:
    return Walker(raw=raw).data_set(0, len(raw), is_implicit=False)


def as_plain(elements: Elements) -> dict:
    """Everything of a data set, read the slow way through both of our layers."""
    plain = {}
    for tag, (vr, begin, end) in elements.places.items():
        keyword = pydicom.datadict.keyword_for_tag(tag)
        if pydicom.datadict.dictionary_VR(tag) == "SQ" and vr in (None, b"SQ", b"UN"):
            plain[tag] = [as_plain(item) for item in elements.items(keyword)]
        else:
            plain[tag] = elements.walker.raw[begin:end].rstrip(b" \0")
    return plain


def as_pydicom(dataset: Dataset, *, is_big: bool) -> dict:
    plain = {}
    for element in dataset:
        if element.VR == "SQ":
            plain[element.tag] = [as_pydicom(item, is_big=is_big) for item in element.value]
        elif element.VR == "US":
            plain[element.tag] = element.value.to_bytes(2, "big" if is_big else "little")
        else:
            plain[element.tag] = str(element.value).encode()
        if not isinstance(plain[element.tag], list):
            plain[element.tag] = plain[element.tag].rstrip(b" \0")
    return plain


leaves = st.fixed_dictionaries(
    {},
    optional={
        "Modality": st.sampled_from(["CT", "MR", "DX"]),
        "Rows": st.integers(0, 65535),
        "PatientComments": st.text("ab c", max_size=9).map(str.strip),
        "SOPInstanceUID": st.sampled_from(["1.2.3", "1.2.840.5"]),
    },
)
trees = st.recursive(
    leaves,
    lambda inner: st.builds(
        lambda plain, items: {**plain, "SharedFunctionalGroupsSequence": items},
        leaves,
        st.lists(inner, max_size=3),
    ),
    max_leaves=8,
)


def data_set(tree: dict, *, undefined: bool) -> Dataset:
    dataset = Dataset()
    dataset.is_undefined_length_sequence_item = undefined
    for keyword, value in tree.items():
        if isinstance(value, list):
            items = [data_set(item, undefined=undefined) for item in value]
            setattr(dataset, keyword, items)
            dataset[keyword].is_undefined_length = undefined
        else:
            setattr(dataset, keyword, value)
    return dataset


@settings(max_examples=60, deadline=None)
@given(tree=trees, syntax=st.sampled_from(SYNTAXES), undefined=st.booleans())
def test_every_value_of_nested_data_is_found_as_pydicom_wrote_it(tree, syntax, undefined):
    tree = {"PatientID": "x", **tree}
    raw = saved(data_set(tree, undefined=undefined), syntax)
    found = parse(raw, limits=Limits())
    expected = pydicom.dcmread(io.BytesIO(raw))
    assert found.transfer_syntax == syntax
    is_big = syntax == ExplicitVRBigEndian
    assert as_plain(found.elements) == as_pydicom(expected, is_big=is_big)


def test_elements_of_the_samples_are_where_pydicom_finds_them(real_data: Path):
    compared = 0
    for path in sorted((real_data / "dicom_samples" / "files").glob("*.dcm")):
        try:
            found = parse(path.read_bytes(), limits=Limits()).elements
        except SkipError:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = pydicom.dcmread(path, force=True, stop_before_pixels=True)
            raw = {int(tag): expected.get_item(tag) for tag in expected.keys()}  # noqa: SIM118
        # values of the undefined lengths have no bytes in pydicom, nor is there a command group
        ours = {tag for tag in found.places if tag < 0x7FE00000}
        assert ours == {tag for tag in raw if tag < 0x7FE00000}, path.name
        for tag, element in raw.items():
            if isinstance(element, pydicom.dataelem.RawDataElement):
                _, begin, end = found.places[tag]
                assert found.walker.raw[begin:end] == (element.value or b""), (path.name, tag)
                compared += 1
    assert compared > 3000


def test_sixteen_levels_are_walked_and_seventeen_refused():
    assert len(walk(nested(16))) == 1
    with pytest.raises(SkipError, match="deeper than 16") as caught:
        walk(nested(17))
    assert caught.value.skip.reason == "too_large"


@pytest.mark.parametrize(
    "body", [bytes.fromhex("08000000") + b"UI\0\0", ITEM_END, ITEM[:4] + bytes(4)]
)
def test_too_many_elements_are_refused_at_once(body):
    raw = {
        bytes.fromhex("08000000") + b"UI\0\0": body * 3_000_000,
        ITEM_END: (SEQUENCE + ITEM + ITEM_END + SEQUENCE_END) * 300_000,
        ITEM[:4] + bytes(4): SEQUENCE + body * 3_000_000 + SEQUENCE_END,
    }[body]

    def refused():
        with pytest.raises(SkipError, match="limit"):
            walk(raw)

    assert steps_of(refused)[1] < 200_000


def test_a_sequence_of_unknown_vr_is_implicit_inside():
    inner = bytes.fromhex("08006000 02000000") + b"MR"
    raw = (
        bytes.fromhex("28000931")
        + b"UN\0\0\xff\xff\xff\xff"
        + ITEM
        + inner
        + ITEM_END
        + SEQUENCE_END
    )
    assert walk(raw)[0x00283109] == (b"UN", 12, 12 + 8 + len(inner) + 8 + 8)


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_bytes_that_end_early_are_truncated(cut):
    raw = SEQUENCE + ITEM + bytes.fromhex("08006000") + b"CS\2\0MR" + ITEM_END + SEQUENCE_END
    with pytest.raises(SkipError) as caught:
        walk(raw[:-cut])
    assert caught.value.skip.reason == "truncated"

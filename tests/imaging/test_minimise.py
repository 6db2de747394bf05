import io
import json
import logging
import re
import warnings
from dataclasses import fields

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.datadict import DicomDictionary, keyword_for_tag

from hospitium.imaging.cache import write_cases
from hospitium.imaging.identity import KEYED, SiteKey
from hospitium.imaging.instance import Facts, Uids
from hospitium.imaging.minimise import ACTIONS, action, minimised, vendor
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.reading import read_header
from hospitium.imaging.scanning import read_index, scan
from hospitium.imaging.sources import read_source

KEY = SiteKey(bytes(32))
NAME, TEXT, DAY, UID = "Plantedsson^Jane", "plantedsson smokes", "19561224", "1.2.826.0.1.19561224"
PLANTED = re.compile(rb"plantedsson|19561224|1\.2\.826", re.IGNORECASE)
BY_VR = {
    **dict.fromkeys(("PN",), NAME),
    **dict.fromkeys(("LO", "SH", "ST", "LT", "UT", "UC", "AE"), TEXT[:16]),
    **dict.fromkeys(("CS",), "PLANTEDSSON"),
    **dict.fromkeys(("DA",), DAY),
    **dict.fromkeys(("DT",), DAY + "120000"),
    **dict.fromkeys(("UI",), UID),
    **dict.fromkeys(("IS", "DS"), DAY),
    **dict.fromkeys(("AS",), "056Y"),
}
DESCRIBES_PIXELS = {
    *(
        "SpecificCharacterSet",
        "SOPClassUID",
        "Rows",
        "Columns",
        "SamplesPerPixel",
        "PhotometricInterpretation",
    ),
    *("NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PixelData", "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"),
    *("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "Modality"),
    *("PresentationIntentType", "ImageType", "BurnedInAnnotation", "PatientOrientation"),
}


def planted(plain: bytes, *, also_listed: bool) -> bytes:
    """Return the image with a name, date, text or UID in every attribute that can hold one."""
    dataset = pydicom.dcmread(io.BytesIO(plain))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag, (vr, *_) in DicomDictionary.items():
            keyword = keyword_for_tag(tag)
            is_listed = keyword in ACTIONS and action(keyword) in "KC"
            if vr not in BY_VR or tag >> 16 < 0x0008 or keyword in DESCRIBES_PIXELS or not keyword:
                continue
            if also_listed or not is_listed:
                setattr(dataset, keyword, BY_VR[vr])
        private = dataset.private_block(0x0019, "PLANTEDSSON", create=True)
        private.add_new(1, "LO", TEXT)
        dataset.add_new(0x60000022, "LO", TEXT)
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture
def image(dicom, ramp):
    return dicom(ramp)


def header(raw):
    found = read_header(raw)
    assert not hasattr(found, "reason"), found
    return found


def outside(raw):
    row = minimised(header(raw), key=KEY, federation="f", with_subgroups=True)
    return json.dumps(row).encode()


def test_a_row_for_outside_holds_nothing_that_was_planted_anywhere(image):
    raw = planted(image, also_listed=True)
    assert PLANTED.search(raw) and len(pydicom.dcmread(io.BytesIO(raw))) > 1000
    assert header(raw).uids.patient == TEXT[:16]  # so the reader did see it
    assert not PLANTED.search(outside(raw))


def test_index_log_cache_and_summary_hold_nothing_of_what_is_not_listed(image, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    raw = planted(image, also_listed=False)
    dataset = pydicom.dcmread(io.BytesIO(raw))
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 999, (6, 8), np.uint16)
        dataset.PixelData, dataset.SOPInstanceUID = pixels.tobytes(), f"{UID}.{number}"
        dataset.PatientID = f"{TEXT[:12]}{number}"
        dataset.save_as(tmp_path / f"{number}.dcm")
    (tmp_path / "broken.dcm").write_bytes(raw[:-40])
    rows = "".join(f"{number}.dcm,{number % 2}\n" for number in range(6))
    (tmp_path / "labels.csv").write_text(f"image,label\n{rows}broken.dcm,1\n")
    summary = scan(tmp_path, index=tmp_path / "local" / "index.jsonl", workers=0)
    cases = read_source(tmp_path, harmonise=Harmonise(size=(8, 8)), seed=1, key=KEY)
    write_cases(tmp_path / "local" / "cases", cases)
    written = [path for path in (tmp_path / "local").rglob("*") if path.is_file()]
    assert all(KEYED.fullmatch(subject) for subject in cases.subjects.tolist())
    assert summary.num_read == 6 and summary.num_subjects == 6 and len(written) > 3
    for path in written:
        content = path.read_bytes()
        assert not PLANTED.search(content.replace(b"\0\0\0", b"")), path
    assert not PLANTED.search(repr(summary).encode() + caplog.text.encode())


def test_the_index_is_grouped_by_names_that_only_the_key_makes(image, tmp_path):
    dataset = pydicom.dcmread(io.BytesIO(planted(image, also_listed=False)))
    for number in range(2):
        dataset.SOPInstanceUID = f"{UID}.{number}"
        dataset.save_as(tmp_path / f"{number}.dcm")
    scan(tmp_path, index=tmp_path / "local" / "index.jsonl", workers=0, key=KEY)
    one, two = read_index(tmp_path / "local" / "index.jsonl")
    looked_up = KEY.pseudonyms(Uids(study=UID))
    assert one.uids.study == two.uids.study == looked_up.study and KEYED.fullmatch(one.uids.study)
    assert one.uids.instance != two.uids.instance and one.subject == two.subject


TYPED = st.text(max_size=20).map(lambda text: f"{text}Qz" if len(text) > 3 else text)
"""What a person may have typed; none of the standard's own words, which may leave."""


@settings(max_examples=40, deadline=None)
@given(
    st.fixed_dictionaries({field.name: TYPED for field in fields(Facts) if field.type == "str"}),
    st.floats(),
)
def test_words_outside_are_known_words_whatever_was_typed(words, number):
    facts = Facts(
        **words, rows=4, columns=4, bits_stored=8, spacing_mm=(number, 1.0), kvp=number
    )  # fmt: skip

    class Found:
        uids = Uids(study="1")

    Found.facts = facts
    row = minimised(Found, key=KEY, federation="f", with_subgroups=True)
    again = minimised(Found, key=KEY, federation="f", with_subgroups=True)
    assert row == again and not {"model", "kernel", "manufacturer"} & row.keys()
    typed = {word for word in words.values() if len(word) > 3}
    assert not typed & {value for value in row.values() if isinstance(value, str)}
    json.dumps(row, allow_nan=False)


def test_subgroups_are_in_it_only_if_the_plan_asks(dicom, ramp):
    found = header(dicom(ramp, PatientSex="F", PatientAge="064Y"))
    plain = minimised(found, key=KEY, federation="f")
    asked = minimised(found, key=KEY, federation="f", with_subgroups=True)
    assert "sex" not in plain and "age_band" not in plain
    assert (asked["sex"], asked["age_band"]) == ("F", "60-69")


def test_every_fact_is_listed_with_its_code_and_all_else_is_removed():
    assert set(ACTIONS.values()) <= {"K", "C", "U", "D"}
    assert set(ACTIONS) <= {keyword_for_tag(tag) for tag in DicomDictionary}
    for keyword in ("PatientName", "StudyDate", "StudyDescription", "StationName", "ImageComments"):
        assert action(keyword) == "X"
    assert (action("Rows"), action("StudyInstanceUID"), action("PatientAge")) == ("K", "U", "C")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("SIEMENS", "Siemens"),
        ("Philips Medical Systems", "Philips"),
        ("GE MEDICAL SYSTEMS", "GE"),
        ("FUJI PHOTO FILM Co., ltd.", "Fujifilm"),
        ("TOSHIBA_MEC", "Toshiba"),
        ("Alder", "Alder"),
        ("", ""),
        ("Geraldine Miller", "other"),
        ("Jane GE", "other"),
    ],
)
def test_manufacturers_have_plain_names(written, name):
    assert vendor(written) == name

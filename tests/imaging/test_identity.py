import multiprocessing
import os
import stat
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.errors import CorruptedError, StorageError, UsageError
from hospitium.imaging.identity import KEYED, SiteKey, hkdf, keyed
from hospitium.imaging.instance import Uids

KEY = SiteKey(bytes(range(32)))
OTHER = SiteKey(bytes(range(1, 33)))
JANE = Uids(study="1.2", series="1.2.3", patient="Jane-7", issuer="Oslo")
TEXT = st.text(max_size=8)


def test_a_key_is_made_once_and_only_this_account_may_read_it(tmp_path):
    made = SiteKey.load_or_make(tmp_path / "site")
    again = SiteKey.load_or_make(tmp_path / "site")
    files = list((tmp_path / "site").iterdir())
    assert made.mark == again.mark != SiteKey.load_or_make(tmp_path / "other").mark
    assert [file.name for file in files] == ["site.key"] and files[0].stat().st_size == 32
    if os.name == "posix":
        assert stat.S_IMODE(files[0].stat().st_mode) == 0o600


def _mark(folder):
    return SiteKey.load_or_make(folder).mark


@pytest.mark.ci
def test_processes_that_start_at_once_agree_on_one_key(tmp_path):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert len(set(pool.map(_mark, [tmp_path / "site"] * 8, chunksize=1))) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no mode of a file")
def test_a_key_that_others_may_read_is_refused_with_the_way_out(tmp_path):
    SiteKey.load_or_make(tmp_path)
    (tmp_path / "site.key").chmod(0o644)
    with pytest.raises(StorageError, match="chmod 600"):
        SiteKey.load_or_make(tmp_path)


def test_a_file_that_is_no_key_is_refused_and_kept(tmp_path):
    (tmp_path / "site.key").write_bytes(b"short")
    (tmp_path / "site.key").chmod(0o600)
    with pytest.raises(CorruptedError, match="5 bytes, expected 32"):
        SiteKey.load_or_make(tmp_path)
    assert (tmp_path / "site.key").read_bytes() == b"short"


def test_keys_are_derived_as_rfc_5869_says():
    # test case 1 of appendix A.1, its first 32 bytes
    derived = hkdf(b"\x0b" * 22, salt=bytes(range(13)), info=bytes(range(0xF0, 0xFA)))
    assert derived.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"


def test_ids_are_26_characters_that_hold_nothing_of_the_patient():
    for name in (KEY.subject_id(JANE, federation="f"), KEY.case_id(JANE, federation="f")):
        assert KEYED.fullmatch(name)
    assert "jane" not in repr(KEY) and repr(KEY) == "SiteKey(...)"


def test_two_federations_and_two_sites_cannot_link_their_ids():
    names = {
        key.subject_id(JANE, federation=federation)
        for key in (KEY, OTHER)
        for federation in ("a", "b")
    }
    assert len(names) == 4
    assert len({key.case_id(JANE, federation=f) for key in (KEY, OTHER) for f in "ab"}) == 4


def test_a_patient_is_one_subject_however_the_id_is_written():
    written = [" jane-7 ", "JANE-7", "Jane-7"]
    uids = [
        Uids(patient=patient, issuer="OSLO ", study=str(n)) for n, patient in enumerate(written)
    ]
    assert len({KEY.subject_id(each, federation="f") for each in uids}) == 1
    elsewhere = Uids(patient="jane-7", issuer="Bergen")
    assert KEY.subject_id(elsewhere, federation="f") != KEY.subject_id(uids[0], federation="f")


def test_without_a_patient_the_study_stands_for_the_subject():
    first, same, other = (Uids(study=study, series=s) for study, s in ("12", "13", "24"))
    ids = [KEY.subject_id(uids, federation="f") for uids in (first, same, other)]
    assert ids[0] == ids[1] != ids[2]
    assert KEY.subject_id(Uids(patient="1"), federation="f") != ids[0]
    assert KEY.subject_id(Uids(patient="  "), federation="f") == ""


def test_an_id_needs_a_federation():
    with pytest.raises(UsageError, match="id of a federation"):
        KEY.subject_id(JANE, federation="")


@settings(max_examples=60, deadline=None)
@given(st.tuples(TEXT, TEXT), st.tuples(TEXT, TEXT))
def test_parts_of_a_name_are_told_apart(one, other):
    assert (keyed(b"k", *one) == keyed(b"k", *other)) == (one == other)


def test_pseudonyms_keep_what_is_equal_and_nothing_else():
    other = Uids(study="1.2", series="1.2.4", patient=" JANE-7", issuer="oslo")
    one, two = KEY.pseudonyms(JANE), KEY.pseudonyms(other)
    assert one.study == two.study and one.patient == two.patient and one.series != two.series
    assert one.study == KEY.pseudonyms(Uids(study="1.2")).study != one.series
    assert one.accession == "" and KEY.pseudonyms(Uids()) == Uids()
    assert one.study != OTHER.pseudonyms(JANE).study
    assert one.study != KEY.case_id(JANE, federation="f")

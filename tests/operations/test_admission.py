"""A site whose reader is not the others' may not join, and is told why."""

from dataclasses import replace

import pytest
from tiny import tiny_plan, write_npz

from hospitium.errors import ReaderError
from hospitium.imaging import decoding
from hospitium.imaging.fingerprint.reader import expected_reader
from hospitium.operations import admission
from hospitium.operations.admission import admit, admit_local
from hospitium.operations.preparing import prepare_run
from hospitium.operations.progress import silent
from hospitium.operations.running import open_ledger
from hospitium.plan.writing import to_toml
from hospitium.state.home import Home


@pytest.fixture
def fresh_reader():
    admission.this_reader.cache_clear()
    yield
    admission.this_reader.cache_clear()


def test_equal_readers_are_admitted_and_kept_for_the_ledger():
    kept = admit_local(["bergen", "oslo"])
    assert set(kept) == {"bergen", "oslo"}
    assert kept["oslo"]["digest"] == expected_reader().digest
    assert "python-gdcm" in kept["oslo"]["versions"]


def test_the_refusal_names_the_site_the_file_the_trap_and_the_version():
    good = expected_reader()
    spoilt = tuple(
        replace(one, stored="0" * 64) if one.trap == "jpeg_8" else one for one in good.series
    )
    other = replace(good, series=spoilt, versions={**good.versions, "python-gdcm": "2.0"})
    with pytest.raises(ReaderError) as caught:
        admit({"bergen": good, "oslo": other})
    text = str(caught.value)
    assert "1 of 2 sites" in text and "oslo: jpeg_8.1.dcm (JPEG Baseline, 8 bits, lossy)" in text
    assert "python-gdcm 2.0 (expected " in text and "bergen" not in text
    assert "Nothing was started" in text


def test_a_run_with_a_wrong_decoder_does_not_begin(tmp_path, monkeypatch, fresh_reader):
    right = decoding._decode_with

    def wrong(plugin, frame, found):
        words = right(plugin, frame, found)
        return words + 1 if found.transfer_syntax.endswith("4.80") else words

    monkeypatch.setattr(decoding, "_decode_with", wrong)
    (tmp_path / "plan.toml").write_text(to_toml(tiny_plan()))
    (tmp_path / "sites.toml").write_text('[sites.oslo]\ndata = "a.npz"\n')
    write_npz(tmp_path / "a.npz")
    home = Home(tmp_path / "home")
    with pytest.raises(ReaderError, match=r"oslo: jpeg_ls\.1\.dcm \(JPEG-LS, signed\)"):
        prepare_run(
            home, plan_path=tmp_path / "plan.toml", sites_path=tmp_path / "sites.toml",
            run_id="first", plugin_path=None, out=None, say=silent, command="test",
        )  # fmt: skip
    assert home.runs() == []


def test_the_ledger_keeps_which_reader_each_site_had(tmp_path):
    (tmp_path / "plan.toml").write_text(to_toml(tiny_plan()))
    (tmp_path / "sites.toml").write_text(
        '[sites.oslo]\ndata = "a.npz"\n[sites.bergen]\ndata = "a.npz"\n'
    )
    write_npz(tmp_path / "a.npz")
    folder = prepare_run(
        Home(tmp_path / "home"), plan_path=tmp_path / "plan.toml",
        sites_path=tmp_path / "sites.toml", run_id="first", plugin_path=None, out=None,
        say=silent, command="test",
    )  # fmt: skip
    ledger = open_ledger(folder)
    try:
        assert {one["digest"] for one in ledger.facts["readers"].values()} == {
            expected_reader().digest
        }
    finally:
        ledger.close()

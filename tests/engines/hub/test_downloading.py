"""A download goes on where it was, on a new file and on one that is written over."""

import hashlib
import sys

import pytest

from hospitium.engines.hub import downloading
from hospitium.engines.hub.downloading import Download
from hospitium.errors import CorruptedError
from hospitium.state import spares
from hospitium.state.spares import Spares

MODEL = bytes(range(256)) * 64
DIGEST = hashlib.sha256(MODEL).hexdigest()
PIECES = [MODEL[start : start + 1000] for start in range(0, len(MODEL), 1000)]


@pytest.fixture(params=["new", "longer", "shorter"])
def take(request, tmp_path, monkeypatch):
    """Return what puts a spare file, of more or fewer bytes than the model, or none."""
    monkeypatch.setattr(spares, "LEAST_BYTES", 1)
    monkeypatch.setattr(downloading, "NOTE_BYTES", 3000)
    kept = Spares(tmp_path / "spares", most=1)
    sizes = {"longer": 2 * len(MODEL), "shorter": 500}
    if request.param in sizes:
        if sys.platform != "linux":
            pytest.skip("elsewhere nothing is written over")
        old = tmp_path / "old"
        old.write_bytes(b"\xff" * sizes[request.param])
        kept.keep(old)
    return kept.take


def begun(folder, take):
    download = Download(folder / "model.part")
    download.resume(take)
    return download


def test_it_is_whole_and_nothing_else_is_left(tmp_path, take):
    download = begun(tmp_path, take)
    download.add(PIECES, most=len(MODEL))
    download.finish(DIGEST, tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == MODEL
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["model"]


def test_what_had_come_before_the_line_broke_is_not_asked_for_again(tmp_path, take):
    def breaking():
        yield from PIECES[:5]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        begun(tmp_path, take).add(breaking(), most=len(MODEL))
    again = begun(tmp_path, take)
    assert again.size == 5000
    again.add(PIECES[5:], most=len(MODEL))
    again.finish(DIGEST, tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == MODEL


@pytest.mark.parametrize("num_came", [0, 1, 2, 4, 7])
def test_after_a_kill_it_goes_on_with_what_was_noted(tmp_path, take, num_came, monkeypatch):
    """A process that is killed runs no `finally`: it leaves what was written until then."""
    download = begun(tmp_path, take)
    pieces = iter(PIECES[:num_came])
    real = download._noted
    monkeypatch.setattr(download, "_noted", lambda: real() if download.size % 3000 == 0 else 0)
    download.add(pieces, most=len(MODEL))
    again = begun(tmp_path, take)
    assert again.size in (1000 * num_came, 3000 * (num_came // 3))
    again.add([MODEL[again.size :]], most=len(MODEL))
    again.finish(DIGEST, tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == MODEL


@pytest.mark.parametrize("data", [MODEL + b"x", b"\x01" + MODEL[1:]])
def test_other_bytes_are_deleted_with_the_note_about_them(tmp_path, take, data):
    download = begun(tmp_path, take)
    with pytest.raises(CorruptedError):
        download.add([data[:9000], data[9000:]], most=len(MODEL))
        download.finish(DIGEST, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []
    assert begun(tmp_path, lambda path: False).size == 0


def test_what_is_left_of_other_downloads_goes_and_of_this_one_stays(tmp_path, take):
    for name in ("model", "other"):
        download = Download(tmp_path / f"{name}.part")
        download.resume(take)
        download.add(PIECES[:3], most=len(MODEL))
    (tmp_path / "whole.safetensors").touch()
    Download.sweep(tmp_path, but="model")
    left = {path.name for path in tmp_path.iterdir() if path.is_file()} - {"model.came"}
    assert left == {"model.part", "whole.safetensors"}
    assert begun(tmp_path, take).size == 3000

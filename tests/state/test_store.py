import hashlib

import numpy as np
import pytest
from runs import create, go_on, small_plan
from stopping import go_on_until_round

from hospitium.errors import CorruptedError
from hospitium.state import store as store_module
from hospitium.state.ledger import RunLedger
from hospitium.state.store import Store
from hospitium.wire import blob

PARAMS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(1, np.float32)}


@pytest.fixture(params=["small", "large"])
def store(request, tmp_path, monkeypatch):
    if request.param == "large":
        monkeypatch.setattr(store_module, "LARGE_BYTES", 0)
    return Store(tmp_path / "store")


def test_what_is_put_is_got_back_under_the_digest_of_its_bytes(store):
    digest = store.put(PARAMS)
    assert hashlib.sha256(store.path(digest).read_bytes()).hexdigest() == digest
    for name, array in store.get(digest).items():
        np.testing.assert_array_equal(array, PARAMS[name], strict=True)


def test_what_is_stored_cannot_be_changed_through_what_is_got(store):
    found = store.get(store.put(PARAMS))
    with pytest.raises(ValueError, match="read-only"):
        found["w"][0, 0] = 5


def test_the_same_params_are_written_once(store):
    digest = store.put(PARAMS)
    written = store.path(digest).stat().st_mtime_ns
    assert store.put({name: array.copy() for name, array in PARAMS.items()}) == digest
    assert store.path(digest).stat().st_mtime_ns == written
    assert store.digests() == {digest}


def test_an_adopted_file_is_moved_and_not_copied(store):
    incoming = store.incoming / "site-1.safetensors"
    with incoming.open("wb") as file:
        digest = blob.write(file, PARAMS)
    inode = incoming.stat().st_ino
    assert store.adopt(incoming, digest).stat().st_ino == inode
    assert not incoming.exists()
    assert store.digests() == {digest}


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other"])
def test_a_file_that_is_not_what_was_written_is_named_and_left(store, damage):
    digest = store.put(PARAMS)
    path = store.path(digest)
    whole = path.read_bytes()
    bad = {
        "flip": whole[:-1] + b"\x99",
        "cut": whole[:-4],
        "empty": b"",
        "other": b"".join(blob.blocks_of({"w": np.zeros(1, np.float32)})),
    }[damage]
    path.write_bytes(bad)
    with pytest.raises(CorruptedError, match=f"{digest}.*damaged.*left as it is.*backup"):
        store.get(digest)
    assert path.read_bytes() == bad


def test_a_file_that_is_gone_is_named(store):
    digest = store.put(PARAMS)
    store.path(digest).unlink()
    with pytest.raises(CorruptedError, match=f"{digest}.*gone.*backup"):
        store.get(digest)


def test_all_but_what_is_wanted_is_swept_and_so_is_what_was_left_half_written(store):
    kept, other = store.put(PARAMS), store.put({"w": np.zeros(3, np.float32)})
    (store.folder / f".{other}.safetensors.12.part").write_bytes(b"half")
    (store.incoming / "site-1").mkdir()
    (store.incoming / "site-1" / ".12.part").write_bytes(b"half")
    (store.incoming / "site-1" / "late.safetensors").write_bytes(b"late")
    store.keep_only({kept})
    files = [path for path in store.folder.rglob("*") if path.is_file()]
    assert files == [store.path(kept)]


@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_a_run_whose_stored_params_are_damaged_or_gone_says_which_and_changes_nothing(
    tmp_path, how
):
    create(tmp_path, small_plan())
    go_on_until_round(3, tmp_path)  # two rounds closed, one update accepted in the third
    ledger = RunLedger(tmp_path)
    before = ledger.record()
    digest = ledger.digests_after(2)["params"]
    path = ledger.store.path(digest)
    ledger.close()
    whole = path.read_bytes()
    path.unlink() if how == "gone" else path.write_bytes(whole[:-1] + b"\x99")
    with pytest.raises(CorruptedError, match=digest):
        go_on(tmp_path)
    ledger = RunLedger(tmp_path)
    assert {**ledger.record(), "blobs": 0} == {**before, "blobs": 0}
    ledger.close()
    path.write_bytes(whole)  # the backup
    create(tmp_path / "unbroken", small_plan())
    assert go_on(tmp_path)[1] == go_on(tmp_path / "unbroken")[1]


@pytest.mark.parametrize("how", ["damaged", "gone"])
@pytest.mark.parametrize("round_number", [1, 3])
def test_whose_accepted_update_was_torn_is_asked_again_and_the_run_ends_with_the_same_bits(
    tmp_path, how, round_number
):
    create(tmp_path, small_plan())
    go_on_until_round(round_number, tmp_path)  # one update is accepted in it
    ledger = RunLedger(tmp_path)
    seats = ledger.record()["seats"]
    digest = next(s["digest"] for s in seats if s["round_number"] == round_number and s["digest"])
    path = ledger.store.path(digest)
    ledger.close()
    path.unlink() if how == "gone" else path.write_bytes(bytes(path.stat().st_size))
    create(tmp_path / "unbroken", small_plan())
    assert go_on(tmp_path)[1] == go_on(tmp_path / "unbroken")[1]

import hashlib

import numpy as np

from hospitium.site import moments


def state_of(value):
    return {"m/w": np.full(3, float(value)), "step": np.array([value], np.int64)}


def saved(folder, *rounds):
    for number in rounds:
        moments.save(folder, state_of(number), round_number=number)


def loaded(folder, before):
    found = moments.load(folder, before=before)
    return None if found is None else int(found["step"][0])


def test_a_round_begins_with_the_state_after_the_last_round_before_it(tmp_path):
    saved(tmp_path, 1, 2)
    assert [loaded(tmp_path, before) for before in (1, 2, 3, 9)] == [None, 1, 2, 2]
    np.testing.assert_array_equal(moments.load(tmp_path, before=3)["m/w"], [2.0, 2.0, 2.0])


def test_a_round_that_is_asked_again_begins_with_the_same_state(tmp_path):
    saved(tmp_path, 1, 2)
    assert loaded(tmp_path, 2) == 1
    moments.save(tmp_path, state_of(20), round_number=2)
    assert loaded(tmp_path, 2) == 1 and loaded(tmp_path, 3) == 20


def test_only_the_last_two_rounds_are_kept(tmp_path):
    saved(tmp_path, 1, 2, 3, 4)
    assert len(list((tmp_path / "moments").iterdir())) == 2
    assert loaded(tmp_path, 5) == 4 and loaded(tmp_path, 4) == 3


def test_a_site_that_was_never_asked_has_no_state(tmp_path):
    assert moments.load(tmp_path, before=1) is None


def test_a_damaged_or_cut_off_state_counts_as_lost(tmp_path):
    saved(tmp_path, 1)
    (path,) = (tmp_path / "moments").iterdir()
    whole = path.read_bytes()
    for damaged in (whole[:-1] + b"\x01", whole[:20], b""):
        path.write_bytes(damaged)
        assert moments.load(tmp_path, before=2) is None


def test_a_file_that_never_was_a_state_counts_as_lost(tmp_path):
    saved(tmp_path, 1)
    digest = hashlib.sha256(b"not arrays").hexdigest()
    (tmp_path / "moments" / f"00000002-{digest}.safetensors").write_bytes(b"not arrays")
    assert moments.load(tmp_path, before=3) is None and loaded(tmp_path, 2) == 1

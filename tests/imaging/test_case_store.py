import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from hospitium.errors import StorageError
from hospitium.imaging import case_store
from hospitium.imaging.case_store import CaseStore, case_key
from hospitium.imaging.instance import ReadOptions, Skip
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.volume_case import Harmonised
from hospitium.wire import blob

STEPS = Harmonise(size=(8, 8, 8), resize="crop")
KEYS = [f"{number:064x}" for number in range(1, 40)]


def case(seed=1, *, side=8, is_plain=False):
    draw = np.random.default_rng(seed)
    shape = (side, side, side)
    return Harmonised(
        image=draw.normal(size=(1, *shape)).astype(np.float32),
        affine=np.diag([1.5, 1.5, 2.0, 1.0]),
        mask=None if is_plain else draw.integers(0, 3, shape).astype(np.uint8),
        is_valid=None if is_plain else draw.random(shape) < 0.9,
        notes=() if is_plain else ("tilt", "mask_shrunk"),
    )


def assert_equal(one, other):
    for name in ("image", "affine", "mask", "is_valid"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.notes == other.notes


@pytest.fixture
def store(tmp_path):
    return CaseStore(tmp_path / "cases", quota_bytes=1 << 30)


@pytest.mark.parametrize("is_plain", [True, False])
def test_what_was_written_reads_back_in_another_process_too(store, tmp_path, is_plain):
    made = case(is_plain=is_plain)
    assert store.read(KEYS[0]) is None
    store.write(KEYS[0], made)
    assert_equal(store.read(KEYS[0]), made)
    assert_equal(CaseStore(tmp_path / "cases", quota_bytes=1).read(KEYS[0]), made)


def test_equal_cases_are_equal_files_without_a_date(store, tmp_path):
    other = CaseStore(tmp_path / "other", quota_bytes=1 << 30)
    store.write(KEYS[0], case())
    other.write(KEYS[0], case())
    (one,), (two,) = (list((tmp_path / name).rglob("*.safetensors")) for name in ("cases", "other"))
    assert one.read_bytes() == two.read_bytes() and one.name == f"{KEYS[0]}.safetensors"


def test_a_key_depends_on_files_steps_and_reader_and_not_on_order(monkeypatch):
    key = case_key(["a", "b"], STEPS)
    assert case_key(["b", "a"], STEPS) == key and len(key) == 64
    others = [
        case_key(["a"], STEPS),
        case_key(["a", "b"], Harmonise(size=(8, 8, 9), resize="crop")),
        case_key(["a", "b"], STEPS, options=ReadOptions(apply_voi=True)),
    ]
    monkeypatch.setattr(case_store, "_version", lambda name: "other")
    assert len({key, *others, case_key(["a", "b"], STEPS)}) == 5


@pytest.mark.parametrize("is_read_before", [False, True])
def test_any_damage_is_a_miss_and_never_an_error(store, tmp_path, is_read_before):
    store.write(KEYS[0], case())
    (path,) = (tmp_path / "cases").rglob("*.safetensors")
    good = path.read_bytes()
    places = {*range(0, 40, 3), *range(40, len(good), 211), len(good) - 1}
    damaged = [good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :] for at in places]
    for number, raw in enumerate([*damaged, b"", good[:-1], good + b"x", good[:300]]):
        path.write_bytes(good)
        os.utime(path, ns=(1, 2 * number))
        assert not is_read_before or store.read(KEYS[0]) is not None
        path.write_bytes(raw)
        os.utime(path, ns=(1, 2 * number + 1))
        assert store.read(KEYS[0]) is None


def test_a_case_that_is_there_is_not_made_again_and_a_skip_is_not_kept(store):
    made = itertools.count()

    def make():
        next(made)
        return case()

    for _ in range(3):
        assert_equal(store.read_or_make(KEYS[0], make), case())
    skip = Skip(reason="constant")
    assert [store.read_or_make(KEYS[1], lambda: skip) for _ in range(2)] == [skip, skip]
    assert next(made) == 1 and store.read(KEYS[1]) is None


def test_above_the_quota_the_least_recently_read_go_first(tmp_path):
    size = blob.size_of(blob.manifest_of(case_store._arrays(case()))) + 200
    store = CaseStore(tmp_path, quota_bytes=4 * size)
    for number in range(4):
        store.write(KEYS[number], case(number))
        _used(tmp_path, KEYS[number], number)
    assert store.read(KEYS[0]) is not None  # now the last one used
    store.write(KEYS[4], case(4))
    left = [number for number in range(5) if store.read(KEYS[number]) is not None]
    assert left == [0, 2, 3, 4]


def _used(folder, key, at):
    path = folder / key[:2] / f"{key}.safetensors"
    os.utime(path, ns=(at, path.stat().st_mtime_ns))


def test_nothing_goes_while_any_process_holds_a_pin(tmp_path):
    store, other = (CaseStore(tmp_path, quota_bytes=1) for _ in range(2))
    with other.pinned():
        for number in range(3):
            store.write(KEYS[number], case(number))
        assert store.evict() == 0 and store.read(KEYS[2]) is not None
    assert store.evict() == 3 and store.read(KEYS[2]) is None
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_pin_that_a_killed_process_left_is_ignored_after_a_week(tmp_path):
    store = CaseStore(tmp_path, quota_bytes=1)
    (tmp_path / "0123456789abcdef.pin").touch()
    store.write(KEYS[0], case())
    assert store.read(KEYS[0]) is not None
    week_ago = tmp_path.stat().st_mtime - 8 * 24 * 3600
    os.utime(tmp_path / "0123456789abcdef.pin", (week_ago, week_ago))
    assert store.evict() == 1


def test_a_folder_that_cannot_be_written_is_said_in_words(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="What was there is intact"):
        CaseStore(tmp_path / "file", quota_bytes=1)


MAKE = """
import sys
from pathlib import Path
import numpy as np
from hospitium.imaging.case_store import CaseStore
from hospitium.imaging.geometry import Volume
from hospitium.imaging.instance import Facts
from hospitium.imaging.pipeline import Harmonise

facts = Facts(modality="MR", manufacturer="", rows=1, columns=1, bits_stored=12, photometric="",
              spacing_mm=None)
store = CaseStore(Path(sys.argv[1]), quota_bytes=1 << 30)
for number in map(int, sys.argv[2:]):
    values = np.random.default_rng(number).gamma(2, 100, (1, 20, 18, 16)).astype(np.float32)
    volume = Volume(values=values, affine=np.diag([1, 1, 2.5, 1.0]), range=(0, 4095), facts=facts)
    steps = Harmonise(size=(16, 16, 16), resize="crop", spacing_mm=(1.3, 1.3, 1.3),
                      intensity="zscore")
    store.write(f"{number:064x}", steps.apply_volume(volume))
"""


@pytest.mark.ci
def test_one_process_or_several_in_any_order_write_the_same_bytes(tmp_path):
    orders = {"one": ["0 1 2 3"], "more": ["3 1", "2 0"]}
    for name, parts in orders.items():
        running = [
            subprocess.Popen([sys.executable, "-c", MAKE, str(tmp_path / name), *part.split()])
            for part in parts
        ]
        assert [process.wait(timeout=60) for process in running] == [0] * len(parts)
    one, more = (
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.safetensors")}
        for name in orders
    )
    assert len(one) == 4 and one == more

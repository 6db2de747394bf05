import sys

import numpy as np
import pytest

from hospitium.site.footprint import Footprint, Footprints, folder_bytes, peak_memory_bytes


def test_a_folder_is_as_large_as_its_files(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "one").write_bytes(b"x" * 1000)
    (tmp_path / "two").write_bytes(b"x" * 24)
    assert folder_bytes(tmp_path) == 1024
    assert folder_bytes(tmp_path / "nothing") == 0


def test_the_most_that_was_seen_is_kept_over_a_restart(tmp_path):
    large = tmp_path / "large"
    large.write_bytes(b"x" * 5000)
    assert Footprints(tmp_path).seen(memory_bytes=7) == Footprint(memory_bytes=7, disk_bytes=5000)
    large.unlink()
    assert Footprints(tmp_path).seen(memory_bytes=3) == Footprint(memory_bytes=7, disk_bytes=5000)
    (tmp_path / "footprint.json").write_text("{")
    assert Footprints(tmp_path).seen(memory_bytes=3).memory_bytes == 3


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")
def test_the_memory_of_a_process_is_the_most_that_it_ever_held():
    array = np.ones(60_000_000, np.uint8)
    most = peak_memory_bytes()
    assert most > array.nbytes
    del array
    assert peak_memory_bytes() == pytest.approx(most, rel=0.2)
    assert peak_memory_bytes(1 << 30) == 0

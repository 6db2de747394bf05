"""Thousands of damaged files: each gives an image or a reason, in bounded work and memory."""

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from steps import steps_of

from hospitium.imaging.files import parse_image, read_file
from hospitium.imaging.instance import Header, Instance, ReadOptions, Skip
from hospitium.imaging.nifti import read_nifti
from hospitium.imaging.reading import parse_dicom, read_header

NUM_FILES, MOST_BYTES = 10_000, 512 << 20
MOST_STEPS, COUNTED = 1_000_000, 10
"""For one file, and how rarely they are counted, as that takes time."""

LARGEST_SEED = 64 << 10
OPTIONS = ReadOptions(apply_voi=True, take_raw=True, take_maps=True)
LENGTHS = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\1\0\0\0", b"\xff\xff")
PICTURES = ("PNG", "JPEG", "TIFF")


@pytest.fixture
def seeds(dicom, png, real_data: Path) -> list[tuple[str, bytes]]:
    """Return small whole files of every kind: the samples, pictures, and volumes."""
    grey = np.random.default_rng(0).integers(0, 256, (24, 32), np.uint8)
    wide = grey.astype(np.uint16) * 16
    window = {"WindowCenter": "500", "WindowWidth": "900", "PixelPaddingValue": 3}
    found = [("dicom", dicom(wide, **window)), ("dicom", dicom(np.stack([grey] * 3, axis=2)))]
    for path in sorted((real_data / "dicom_samples" / "files").glob("*.dcm")):
        if path.stat().st_size <= LARGEST_SEED:
            found.append(("dicom", path.read_bytes()))
    found += [("picture", png(grey, format=kind)) for kind in PICTURES for _ in range(4)]
    volumes = sorted((real_data / "hippocampus3d").rglob("*.nii*"))[:3]
    return found + [("nifti", path.read_bytes()) for path in volumes for _ in range(2)]


def damaged(raw: bytes, rng: np.random.Generator) -> bytes:
    """Return a file with a few bytes changed, most of them in its first two kilobytes."""
    changed = bytearray(raw)
    for _ in range(rng.integers(1, 6)):
        end = len(changed) if rng.random() < 0.2 else min(len(changed), 2048)
        at = int(rng.integers(0, end))
        kind = rng.integers(0, 5)
        if kind == 0:
            piece = LENGTHS[rng.integers(0, len(LENGTHS))]
            changed[at : at + len(piece)] = piece
        elif kind == 1 and len(changed) > 400:
            del changed[at : at + int(rng.integers(1, 40))]
        elif kind == 2:
            changed[at:at] = changed[at // 2 : at // 2 + int(rng.integers(1, 64))]
        else:
            changed[at] = int(rng.integers(0, 256))
    return bytes(changed[: rng.integers(1, len(changed))] if rng.random() < 0.05 else changed)


def readings(kind: str, raw: bytes, path: Path) -> Iterator[Callable[[], object]]:
    """Yield every way to read such a file."""
    if kind == "dicom":
        yield lambda: parse_dicom(raw, options=OPTIONS)
        yield lambda: read_header(raw, options=OPTIONS)
    elif kind == "picture":
        yield lambda: parse_image(raw)
    else:
        path.write_bytes(raw)
        yield lambda: read_nifti(path)
        yield lambda: read_file(path)


@pytest.mark.ci
def test_ten_thousand_damaged_files_raise_nothing_and_stay_within_bounds(seeds, tmp_path):
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    rng = np.random.default_rng(20_240_521)
    before, outcomes = most_memory(), {"read": 0, "left out": 0}
    for number in range(NUM_FILES):
        kind, raw = seeds[number % len(seeds)]
        changed = damaged(raw, rng)
        # a volume that says it is compressed has another name
        name = "a.nii.gz" if raw[:2] == b"\x1f\x8b" else "a.nii"
        for read in readings(kind, changed, tmp_path / name):
            found, steps = steps_of(read) if number % COUNTED == 0 else (read(), 0)
            assert steps < MOST_STEPS, (number, kind, steps)
            left_out = isinstance(found, Skip)
            outcomes["left out" if left_out else "read"] += 1
            assert left_out or isinstance(found, Instance | Header) or kind == "nifti"
    assert min(outcomes.values()) > NUM_FILES // 10, outcomes
    assert most_memory() - before < MOST_BYTES


def most_memory() -> int:
    """Return the most memory that this process ever had, 0 where the system does not say."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

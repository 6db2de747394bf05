"""One radiograph from file to case: against pydicom's bare pixels and a naive chain; and bombs.

One core, CPU time, best of some repeats taken in turns. Radiographs are smooth with noise, so that
they compress as real ones do.
"""

from __future__ import annotations

import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.encaps import encapsulate
from scipy.ndimage import zoom

from bench.rows import Row
from hospitium.imaging.instance import Instance, Skip
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.reading import parse_dicom, read_dicom
from hospitium.imaging.writing import Encoding, Radiograph, Study, write_radiograph

HARMONISE = Harmonise(size=(224, 224), intensity="percentile")
STUDY = Study(
    name="bench/reading",
    patient_id="bench",
    patient_sex="O",
    patient_age=50,
    study_date="20200101",
    manufacturer="Alder",
)
MOST_S = 1.0
"""In which each bomb is to be refused."""


def rows(*, small: bool) -> Iterator[Row]:
    """Measure P1, P2 and P8; `bench.imaging_scan` has P4."""
    side, repeats = (256, 2) if small else (2048, 7)
    with tempfile.TemporaryDirectory(prefix="hospitium-bench-") as folder:
        compressed = _write(Path(folder) / "a.dcm", (side * 7 // 8, side), "jpeg2000")
        native = _write(Path(folder) / "b.dcm", (side // 2, side // 2), "explicit")
        p1_s, pixels_s = _best_cpu(
            repeats, lambda: _case(compressed), lambda: pydicom.dcmread(compressed).pixel_array
        )
        p2_s, naive_s = _best_cpu(3 * repeats, lambda: _case(native), lambda: _naive(native))
        p8_s = max(_refusal_s(bomb) for bomb in _bombs(native.read_bytes(), small=small))
    yield Row(name="imaging_p1", value=p1_s, unit="s", floor=pixels_s, target=1.3)
    yield Row(name="imaging_p2", value=p2_s, unit="s", floor=naive_s, target=1.5)
    yield Row(name="imaging_p8", value=p8_s, unit="s", floor=MOST_S, target=1.0)


def _write(path: Path, shape: tuple[int, int], encoding: Encoding) -> Path:
    """Write a radiograph of 12 bits, light on dark with noise."""
    rng = np.random.default_rng(0)
    rows, columns = (np.linspace(-1, 1, side) for side in shape)
    smooth = 3000 * np.exp(-2 * (rows[:, np.newaxis] ** 2 + columns**2))
    stored = np.clip(smooth + rng.normal(500, 12, shape), 0, 4095).astype(np.uint16)
    header = Radiograph(
        study=STUDY,
        modality="DX",
        bits_stored=12,
        photometric="MONOCHROME2",
        spacing_mm=0.14,
        encoding=encoding,
    )
    write_radiograph(path, stored, header=header)
    return path


def _case(path: Path) -> npt.NDArray[np.float32]:
    found = read_dicom(path)
    assert isinstance(found, Instance)
    return HARMONISE.apply(found)


def _naive(path: Path) -> npt.NDArray[np.float32]:
    """Do what one writes in a notebook: percentiles, clip, and an order-1 zoom."""
    values = pydicom.dcmread(path).pixel_array.astype(np.float32)
    low, high = np.percentile(values, (1, 99))
    scaled = np.clip((values - low) / (high - low), 0, 1)
    factors = [224 / side for side in scaled.shape]
    result: npt.NDArray[np.float32] = zoom(scaled, factors, order=1)
    return result


def _bombs(native: bytes, *, small: bool) -> Iterator[bytes]:
    """Yield objects that claim to be enormous: in pixels, in elements, and deflated."""
    count = 30_000 if small else 3_000_000
    start = native.index(b"\x08\0\x16\0UI")
    undefined = bytes.fromhex("0800 4011") + b"SQ\0\0\xff\xff\xff\xff"
    item = bytes.fromhex("feff 00e0 ffffffff")
    yield native[:start] + (bytes.fromhex("08000000") + b"UI\0\0") * count + native[start:]
    yield native[:start] + (undefined + item) * count
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    yield _with_syntax(native[:start], "1.2.840.10008.1.2.1.99") + (
        packer.compress(bytes(100 * count)) + packer.flush()
    )
    codestream = struct.pack(">4s4x4I16x", b"\xff\x4f\xff\x51", 20_000, 20_000, 0, 0)
    end = native.index(b"\xe0\x7f\x10\0")
    pixels = encapsulate([codestream + b"\0\1\x0b\1\1\xff\xd9"], has_bot=False)
    header = _with_syntax(native[:end], "1.2.840.10008.1.2.4.90")
    for keyword in (b"\x28\0\x10\0US\2\0", b"\x28\0\x11\0US\2\0"):
        at = header.index(keyword) + len(keyword)
        header = header[:at] + (20_000).to_bytes(2, "little") + header[at + 2 :]
    yield header + b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" + pixels + b"\xfe\xff\xdd\xe0\0\0\0\0"


def _with_syntax(raw: bytes, uid: str) -> bytes:
    """Return the beginning of a file with another transfer syntax."""
    value = uid.encode() + b"\0" * (len(uid) % 2)
    tag = b"\2\0\x10\0UI"
    at = raw.index(tag) + len(tag)
    length = int.from_bytes(raw[at : at + 2], "little")
    return raw[:at] + len(value).to_bytes(2, "little") + value + raw[at + 2 + length :]


def _refusal_s(bomb: bytes) -> float:
    """Return how long it takes to refuse a bomb."""
    started = time.process_time()
    found = parse_dicom(bomb)
    took = time.process_time() - started
    assert isinstance(found, Skip), found
    return took


def _best_cpu(repeats: int, *works: Callable[[], object]) -> list[float]:
    """Return the shortest CPU time of each work in seconds, taken in turns."""
    best = [float("inf")] * len(works)
    for _ in range(repeats):
        for index, work in enumerate(works):
            started = time.process_time()
            work()
            best[index] = min(best[index], time.process_time() - started)
    return best

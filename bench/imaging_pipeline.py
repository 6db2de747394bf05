"""A CT from files to a harmonised case, its memory, and the same case again from the cache.

One core, CPU time, best of some repeats taken in turns.
"""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK

from bench.rows import Row
from hospitium.imaging.case_store import CaseStore, case_key
from hospitium.imaging.geometry import Volume, assemble_series
from hospitium.imaging.instance import Header
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.reading import read_dicom, read_header
from hospitium.imaging.volume_case import Harmonised
from hospitium.imaging.writing import Grid, Study, Tomogram, write_slices

SPACING_MM = 1.5
WINDOW_HU = (-1000.0, 400.0)
STUDY = Study(
    name="bench/pipeline",
    patient_id="bench",
    patient_sex="O",
    patient_age=50,
    study_date="20200101",
    manufacturer="Alder",
)
_MIB = 1 << 20


def rows(*, small: bool) -> Iterator[Row]:
    """Measure P3, P7 and the memory bar of P6 for one volume."""
    shape, repeats = ((12, 64, 64), 2) if small else ((96, 512, 512), 5)
    with tempfile.TemporaryDirectory(prefix="hospitium-bench-") as folder:
        series = Path(folder) / "ct"
        series.mkdir()
        files = _write(series, shape)
        bar_mib = 3 * 4 * float(np.prod(shape)) / _MIB + 200
        peak_mib = _peak_mib(files)
        yield Row(name="imaging_p6_volume", value=peak_mib, unit="MiB", floor=bar_mib, target=1.0)
        ours_s, padded_s, plain_s = _best_cpu(
            repeats,
            lambda: _case(files),
            lambda: _steps().apply_volume(_padded(_volume(files))),
            lambda: _plain(files),
        )
        yield Row(name="imaging_p3", value=ours_s, unit="s", floor=plain_s, target=1.3)
        yield Row(name="imaging_p3_padded", value=padded_s, unit="s", floor=plain_s)
        yield from _cached(Path(folder) / "cases", _case(files), repeats=3 * repeats)


def _write(folder: Path, shape: tuple[int, int, int]) -> list[Path]:
    """Write a native CT of 0.8 x 0.8 x 3 mm: a body with noise, in air."""
    rng = np.random.default_rng(0)
    side = shape[1]
    across = np.linspace(-1, 1, side)
    body = across[:, np.newaxis] ** 2 + across**2 < 0.7
    flesh = np.where(body, 1064, 24).astype(np.uint16)
    stored = flesh + rng.integers(0, 40, shape, np.uint16)
    grid = Grid(
        shape=shape,
        origin_mm=(-200.0, -200.0, 0.0),
        across=(1.0, 0.0, 0.0),
        down=(0.0, 1.0, 0.0),
        step_mm=(0.0, 0.0, 3.0),
        spacing_mm=(0.8, 0.8),
    )
    header = Tomogram(
        study=STUDY, modality="CT", body_part="CHEST", bits_stored=12, slope=(1.0, -1024.0)
    )
    write_slices(folder, stored, grid=grid, header=header)
    return sorted(folder.iterdir())


def _steps(side: int = 256) -> Harmonise:
    return Harmonise(
        size=(side, side, side),
        resize="crop",
        spacing_mm=(SPACING_MM,) * 3,
        intensity="window",
        window=WINDOW_HU,
    )


def _case(files: Sequence[Path]) -> Harmonised:
    """Read headers, assemble, harmonise: what becomes of a series."""
    return _steps().apply_volume(_volume(files))


def _volume(files: Sequence[Path]) -> Volume:
    headers = [header for header in map(read_header, files) if isinstance(header, Header)]
    assert len(headers) == len(files)
    found = assemble_series(headers, lambda number: read_dicom(files[number]))
    assert isinstance(found, Volume)
    return found


def _padded(volume: Volume) -> Volume:
    """Return a volume that is valid within a cylinder only, as padded ones are."""
    across = np.linspace(-1, 1, volume.shape[0])
    is_valid = np.ones_like(volume.values[0], np.bool_)
    is_valid &= (across[:, np.newaxis] ** 2 + across**2 < 1)[..., np.newaxis]
    return replace(volume, is_valid=is_valid)


def _plain(files: Sequence[Path]) -> SimpleITK.Image:
    """Decode all slices and resample once: no geometry, no intensity, no checks."""
    slices = np.stack([pydicom.dcmread(file).pixel_array for file in files])
    image = SimpleITK.GetImageFromArray(slices.astype(np.float32))
    image.SetSpacing((0.8, 0.8, 3.0))
    resample = SimpleITK.ResampleImageFilter()
    resample.SetNumberOfThreads(1)
    resample.SetInterpolator(SimpleITK.sitkLinear)
    resample.SetOutputSpacing((SPACING_MM,) * 3)
    resample.SetSize(
        [
            round(n * mm / SPACING_MM)
            for n, mm in zip(image.GetSize(), image.GetSpacing(), strict=True)
        ]
    )
    return resample.Execute(image)


def _peak_mib(files: Sequence[Path]) -> float:
    """Return the peak memory of a fresh process that makes the case, interpreter included.

    Not ``ru_maxrss``: it begins with the peak of the process that started this one.
    """
    code = (
        "import sys; from pathlib import Path; from bench.imaging_pipeline import _case; "
        "_case([Path(name) for name in sys.argv[1:]]); "
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    command = [sys.executable, "-c", code, *map(str, files)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout) * 1024 / _MIB


def _cached(folder: Path, case: Harmonised, *, repeats: int) -> Iterator[Row]:
    """Compare a case of the store with `numpy.load`, and with reading it compressed."""
    store, key = CaseStore(folder, quota_bytes=1 << 33), case_key(["bench"], _steps())
    store.write(key, case)
    plain, packed = folder / "plain.npy", folder / "packed.npy.gz"
    np.save(plain, case.image)
    with gzip.open(packed, "wb", compresslevel=1) as stream:
        np.save(stream, case.image)
    copy = np.empty_like(case.image)
    _store_to(copy, store, key)  # verifies once
    warm_s, load_s = _best_cpu(
        repeats,
        lambda: _store_to(copy, store, key),
        lambda: np.copyto(copy, np.load(plain)),
    )
    (cold_s,) = _best_cpu(2, lambda: np.copyto(copy, np.load(io.BytesIO(_unpacked(packed)))))
    yield Row(name="imaging_p7", value=warm_s, unit="s", floor=load_s, target=1.25)
    yield Row(
        name="imaging_p7_against_compressed",
        value=cold_s,
        unit="s",
        floor=warm_s,
        target=10.0,
        better="higher",
    )


def _store_to(copy: np.ndarray, store: CaseStore, key: str) -> None:
    """Bring a case into a batch."""
    found = store.read(key)
    assert found is not None
    np.copyto(copy, found.image)


def _unpacked(path: Path) -> bytes:
    with gzip.open(path) as stream:
        return stream.read()


def _best_cpu(repeats: int, *works: Callable[[], object]) -> list[float]:
    """Return the shortest CPU time of each work in seconds, taken in turns."""
    best = [float("inf")] * len(works)
    for _ in range(repeats):
        for index, work in enumerate(works):
            started = time.process_time()
            work()
            best[index] = min(best[index], time.process_time() - started)
    return best

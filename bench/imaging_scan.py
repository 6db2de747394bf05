"""Scanning a folder: against a bare decode loop, over workers, in memory, and after a crash.

Slices are 512 x 512 CT of 16 bits, smooth with noise, in five encodings. Times of one process are
CPU times of one thread, best of some repeats taken in turns; times over workers are wall times and
mean something on idle cores only.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import resource
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import gdcm
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from bench.rows import Row
from hospitium.imaging.decode_pool import MAX_AHEAD
from hospitium.imaging.identity import SiteKey
from hospitium.imaging.instance import Instance, Limits, ReadOptions
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.reading import read_header
from hospitium.imaging.scan_worker import FileReader
from hospitium.imaging.scanning import num_cores, scan

SIDE = 512
TARGETS = {"jpeg2000": 0.7, "jpeg_ls": 0.7, "jpeg": 0.7, "rle": 0.2, "native": 0.2}
HARMONISE = Harmonise(size=(224, 224), intensity="window", window=(-1000.0, 400.0))
KEY = SiteKey(bytes(32))
_MIB = 1 << 20


def rows(*, small: bool) -> Iterator[Row]:
    """Measure each of P3b, P4, P5, P6 and P9."""
    with tempfile.TemporaryDirectory(prefix="hospitium-bench-") as folder:
        root = Path(folder)
        yield from _decoding(root / "p3b", count=2 if small else 12, repeats=2 if small else 5)
        yield _headers(root / "p4", count=20 if small else 400)
        yield from _workers(root / "p5", count=8 if small else 480)
        yield from _memory(root / "p6", counts=(4, 12) if small else (100, 1000))
        yield _crash(root / "p9", count=600 if small else 10_000)


# --- the slices ----------------------------------------------------------------------------------


def _slice(number: int, *, side: int = SIDE) -> Dataset:
    """Return a native CT slice that compresses as a real one does, to about half."""
    rng = np.random.default_rng(number)
    across = np.linspace(-1, 1, side)
    disc = np.hypot(across[:, None], 1.3 * across[None, :]) < 0.8
    values = np.where(disc, 1040 + 200 * np.sin(9 * across)[:, None], 24)
    values = (values + rng.normal(0, 12, (side, side))).clip(0, 4095).astype("<u2")
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"1.2.3.{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"1.2.{number // 100}", "1.2"
    dataset.Modality, dataset.Manufacturer, dataset.PatientID = "CT", "Alder", f"{number // 100}"
    dataset.ImagePositionPatient = [0, 0, float(number)]
    dataset.ImageOrientationPatient, dataset.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.7, 0.7]
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.Rows = dataset.Columns = side
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 0
    dataset.add_new("PixelData", "OW", values.tobytes())
    return dataset


def _bytes(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _encoded(number: int, encoding: str, *, side: int = SIDE) -> bytes:
    """Return a slice as a file in one of the encodings of ``TARGETS``."""
    dataset = _slice(number, side=side)
    syntaxes = {"jpeg2000": JPEG2000Lossless, "jpeg_ls": JPEGLSLossless, "rle": RLELossless}
    if encoding in syntaxes:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset.compress(syntaxes[encoding], generate_instance_uid=False)
    return _as_lossless_jpeg(_bytes(dataset)) if encoding == "jpeg" else _bytes(dataset)


def _as_lossless_jpeg(raw: bytes) -> bytes:
    """Compress a native file by JPEG Lossless (1.2.840.10008.1.2.4.70)."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "native.dcm", Path(folder) / "jpeg.dcm"
        source.write_bytes(raw)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(source))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(target))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return target.read_bytes()


def _write(folder: Path, count: int, encoding: str, *, side: int = SIDE) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:05}.dcm" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(_encoded(number, encoding, side=side))
    return paths


# --- P3b, P4: one core ---------------------------------------------------------------------------


def _best_cpu(repeats: int, *works: Callable[[], object]) -> list[float]:
    """Return the least CPU time of each work in seconds, taken in turns."""
    best = [float("inf")] * len(works)
    for _ in range(repeats):
        for index, work in enumerate(works):
            started = time.process_time()
            work()
            best[index] = min(best[index], time.process_time() - started)
    return best


def _decoding(root: Path, *, count: int, repeats: int) -> Iterator[Row]:
    """P3b: reading, hashing, describing and harmonising slices, beside decoding alone."""
    for encoding, target in TARGETS.items():
        paths = _write(root / encoding, count, encoding)
        reader = FileReader(root=root, key=KEY, options=ReadOptions(), limits=Limits())
        ours, bare = _best_cpu(repeats, lambda: _to_cases(reader, paths), lambda: _decoded(paths))  # noqa: B023
        yield Row(
            name=f"imaging_p3b_{encoding}",
            value=count / ours,
            unit="slices/s",
            floor=count / bare,
            target=target,
            better="higher",
        )


def _to_cases(reader: FileReader, paths: Sequence[Path]) -> None:
    for path in paths:
        found = reader.read(path)
        assert isinstance(found, Instance), found
        reader.describe(found, path, {"file": path.name}).as_line()
        HARMONISE.apply(found)


def _decoded(paths: Sequence[Path]) -> None:
    for path in paths:
        assert pydicom.dcmread(path).pixel_array.size


def _headers(root: Path, *, count: int) -> Row:
    """P4: what a header says, beside parsing it."""
    paths = _write(root, count, "native", side=64)
    ours, bare = _best_cpu(
        5,
        lambda: [read_header(path).facts for path in paths],
        lambda: [pydicom.dcmread(path, stop_before_pixels=True) for path in paths],
    )
    return Row(
        name="imaging_p4_header_scan_ms",
        value=1e3 * ours / count,
        unit="ms",
        floor=1e3 * bare / count,
        target=1.4,
    )


# --- P5: several workers -------------------------------------------------------------------------


def _workers(root: Path, *, count: int) -> Iterator[Row]:
    """P5: the same files with 2 and, where there are as many cores, 4 workers, beside 1."""
    _write(root / "files", count, "jpeg2000")
    one_s = _scan_s(root, workers=1)
    for workers, target in ((2, 1.6), (4, 3.0)):
        if num_cores() >= workers:
            yield Row(
                name=f"imaging_p5_{workers}_workers",
                value=count / _scan_s(root, workers=workers),
                unit="slices/s",
                floor=count / one_s,
                target=target,
                better="higher",
            )


def _scan_s(root: Path, *, workers: int) -> float:
    with tempfile.TemporaryDirectory() as local:
        started = time.perf_counter()
        summary = scan(
            root / "files", index=Path(local) / "index.jsonl", workers=workers, key=KEY
        )  # fmt: skip
        assert summary.num_skipped == 0
        return time.perf_counter() - started


# --- P6: memory ----------------------------------------------------------------------------------


def _memory(root: Path, *, counts: tuple[int, int]) -> Iterator[Row]:
    """P6: the peak of a process that reads few and many studies, and one large volume."""
    few, many = counts
    for count in counts:
        _write(root / str(count), count, "native", side=256)
    large = root / "large"
    large.mkdir()
    frames = 200 if many >= 1000 else 20
    large_bytes = frames * SIDE * SIDE * 4
    (large / "large.dcm").write_bytes(_multi_frame(frames))
    yield Row(
        name="imaging_p6_peak_after_many",
        value=_in_process(_peak_bytes, root / str(many)) / _MIB,
        unit="MiB",
        floor=_in_process(_peak_bytes, root / str(few)) / _MIB,
        target=1.1,
    )
    yield Row(
        name="imaging_p6_peak_of_large",
        value=_in_process(_peak_bytes, large) / _MIB,
        unit="MiB",
        floor=3 * large_bytes / _MIB + 200,
        target=1.0,
    )


def _multi_frame(frames: int) -> bytes:
    """Return a native file of many frames, which is one instance of one large array."""
    dataset = _slice(0)
    pixels = dataset.PixelData
    dataset.NumberOfFrames = frames
    dataset.PixelData = pixels * frames
    return _bytes(dataset)


def _peak_bytes(folder: Path) -> int:
    """Read every file below a folder in this process and return its peak memory."""
    with tempfile.TemporaryDirectory() as local:
        summary = scan(folder, index=Path(local) / "index.jsonl", workers=0, key=KEY)
    assert summary.num_skipped == 0
    return peak_bytes()


def peak_bytes() -> int:
    """Return the peak of this process's resident memory, without what its parent had."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:  # no Linux
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def _in_process(work: Callable[[Path], int], folder: Path) -> int:
    """Run a work in a fresh process and return what it returns."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(theirs, work, folder))
    process.start()
    theirs.close()
    found = int(ours.recv())
    process.join()
    return found


def _answer(pipe: Connection, work: Callable[[Path], int], folder: Path) -> None:
    pipe.send(work(folder))


# --- P9: a crash ---------------------------------------------------------------------------------


def _crash(root: Path, *, count: int) -> Row:
    """P9: kill a scan half way, with all its workers, and count what is read twice at most."""
    files, index = root / "files", root / "local" / "index.jsonl"
    _write(files, count, "native", side=16)
    context = multiprocessing.get_context("spawn")
    victim = context.Process(target=_scan_files, args=(files, index))
    victim.start()
    journal = index.with_suffix(".journal")
    while victim.is_alive() and _num_lines(journal) < count // 2:
        time.sleep(0.01)
    victim.kill()
    victim.join()
    num_opened = _num_lines(journal) + MAX_AHEAD  # what was under way may have been opened
    summary = scan(files, index=index, workers=1, key=KEY)
    assert summary.num_files == count and num_opened < count
    return Row(
        name="imaging_p9_read_twice",
        value=num_opened + summary.num_read_again - count,
        unit="files",
        floor=count,
        target=0.01,
    )


def _scan_files(files: Path, index: Path) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    scan(files, index=index, workers=1, key=KEY)


def _num_lines(path: Path) -> int:
    with suppress(OSError):
        return path.read_bytes().count(b"\n")
    return 0

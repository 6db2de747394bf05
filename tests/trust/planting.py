"""A hospital's data of which no text may leave, and a search that finds those that did."""

from __future__ import annotations

import base64
import binascii
import csv
import json
import re
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from tiny import images_of

DX = "1.2.840.10008.5.1.4.1.1.1.1"
NUM_IMAGES = 48
TEXTS = (
    "PatientName", "PatientID", "OtherPatientIDs", "PatientComments", "PatientAddress",
    "AccessionNumber", "StudyID", "StudyDescription", "SeriesDescription", "ProtocolName",
    "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName",
    "ReferringPhysicianName", "OperatorsName", "PerformingPhysicianName", "RequestingPhysician",
    "DeviceSerialNumber", "ImageComments", "ReasonForStudy", "AdditionalPatientHistory",
    "EthnicGroup", "Occupation", "PatientTelephoneNumbers", "MedicalRecordLocator",
)  # fmt: skip
UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
ACCENTS = ("", " Åse", "'; --", ' "x"', " 日本")


@dataclass
class Planted:
    """Strings that were put in, each with the place where; drawn from a seed."""

    seed: int
    texts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._draw = np.random.default_rng(self.seed)

    def text(self, where: str, *, accents: bool = False) -> str:
        """Return a new string for a place; that part of it that is looked for has no accents."""
        core = "zq" + "".join("bcdfghjklmnp"[int(n)] for n in self._draw.integers(0, 12, 12))
        self.texts[core] = where
        return core + (ACCENTS[int(self._draw.integers(0, len(ACCENTS)))] if accents else "")

    def uid(self, where: str) -> str:
        core = "1.2.826.0.1." + ".".join(str(n) for n in self._draw.integers(10**8, 10**9, 3))
        self.texts[core] = where
        return core

    def found_in(self, data: bytes) -> set[str]:
        """Return the places whose strings are in these bytes, also inside base64 or hexadecimal."""
        return {
            self.texts[text]
            for piece in layers(data)
            for match in _PLANTED.finditer(piece.lower())
            if (text := match[0].decode()) in self.texts
        }


_PLANTED = re.compile(rb"zq[bcdfghjklmnp]{12}|1\.2\.826\.0\.1\.\d{9}\.\d{9}\.\d{9}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{16,}={0,2}")
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2}){8,}")


def layers(data: bytes, depth: int = 4) -> Iterator[bytes]:
    """Yield bytes, and what is written inside them in base64, hexadecimal, or JSON's escapes."""
    yield data
    if depth == 0 or not data:
        return
    if b"\\u" in data:
        with suppress(ValueError):
            yield data.decode("unicode_escape").encode("utf-8", "replace")
    for match in _BASE64.finditer(data):
        with suppress(binascii.Error, ValueError):
            yield from layers(base64.b64decode(match[0] + b"=" * (-len(match[0]) % 4)), depth - 1)
    for match in _HEX.finditer(data):
        with suppress(ValueError):
            yield bytes.fromhex(match[0].decode())


def write_hospital(folder: Path, planted: Planted, *, seed: int) -> tuple[Path, Path]:
    """Write DICOM files in folders and a table of labels; return the folder and the table."""
    images, labels = images_of(NUM_IMAGES, seed=seed, size=16)
    rows = []
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / planted.text("folder name") / f"{planted.text('file name')}.dcm"
        place.parent.mkdir(parents=True)
        place.write_bytes(b"")
        _write(place, image, planted)
        rows.append(
            {
                "image": place.relative_to(folder).as_posix(),
                "label": ("normal", "pneumonia")[label],
                "subject": planted.text("column of subjects", accents=True),
                planted_column(planted): planted.text("column of remarks", accents=True),
                "number": str(number),
            }
        )
    table = folder.parent / f"{planted.text('name of the table')}.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows({name: row.get(name, "") for name in rows[0]} for row in rows)
    return folder, table


def planted_column(planted: Planted) -> str:
    """Return the one name of a column that a site has planted."""
    found = [text for text, where in planted.texts.items() if where == "name of a column"]
    return found[0] if found else planted.text("name of a column")


def _write(path: Path, image: np.ndarray, planted: Planted) -> None:
    """Write a DX image of which every text and every UID is planted."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = DX
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.SpecificCharacterSet = "ISO_IR 192"
        for keyword in TEXTS:
            setattr(dataset, keyword, planted.text(keyword, accents=True))
        for keyword in UIDS:
            setattr(dataset, keyword, planted.uid(keyword))
        block = dataset.private_block(0x0011, planted.text("private creator"), create=True)
        block.add_new(0x01, "LO", planted.text("private value"))
        described = {
            "SOPClassUID": DX, "Modality": "DX", "BurnedInAnnotation": "NO",
            "PatientOrientation": ["L", "F"], "Rows": image.shape[0], "Columns": image.shape[1],
            "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 8,
            "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0, "PixelData": image.tobytes(),
        }  # fmt: skip
        for keyword, value in described.items():
            setattr(dataset, keyword, value)
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(path, enforce_file_format=True)


class Wire:
    """Everything that this process's HTTP clients send, and what they are answered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[bytes] = []
        self.answered: list[bytes] = []
        handle = httpx.HTTPTransport.handle_request

        def recording(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
            head = [str(request.url).encode(), *(b"%s: %s" % pair for pair in request.headers.raw)]
            self.sent.append(b"\n".join(head))
            request.stream = _Recorded(request.stream, self.sent)
            response = handle(transport, request)
            self.answered.append(b"\n".join(b"%s: %s" % pair for pair in response.headers.raw))
            response.stream = _Recorded(response.stream, self.answered)
            return response

        monkeypatch.setattr(httpx.HTTPTransport, "handle_request", recording)


class _Recorded(httpx.SyncByteStream):
    """A stream of which every piece is noted as it passes."""

    def __init__(self, inner: httpx.SyncByteStream, into: list[bytes]) -> None:
        self._inner = inner
        self._into = into

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._inner:
            self._into.append(bytes(piece))
            yield piece

    def close(self) -> None:
        if hasattr(self._inner, "close"):
            self._inner.close()


def everything_in(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each file below a folder with its bytes, and each database also row by row."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        data = path.read_bytes()
        yield str(path.relative_to(folder)), str(path.relative_to(folder)).encode() + b"\n" + data
        if data.startswith(b"SQLite format 3"):
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
                for line in _rows(database):
                    yield f"{path.name} rows", line


def _rows(database: sqlite3.Connection) -> Iterator[bytes]:
    """Yield every row of every table, texts and blobs as they are."""
    names = [
        row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type='table'")
    ]
    for name in names:
        for row in database.execute(f'SELECT * FROM "{name}"'):
            yield b"\n".join(
                value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
                for value in row
            )


def secrets_of(folder: Path) -> dict[str, bytes]:
    """Return the secret bytes of every key file, site secret and invite below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.name == "site.key":
            found[name] = path.read_bytes()
        elif path.suffix == ".key" and "keys" in path.parts:
            found[name] = bytes.fromhex(json.loads(path.read_bytes())["seed"])
        elif path.suffix == ".invite":
            payload = base64.b64decode(json.loads(path.read_bytes())["payload"])
            found[name] = bytes.fromhex(json.loads(payload)["token"])
    return found

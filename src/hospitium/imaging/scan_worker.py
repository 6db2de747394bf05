"""What a worker does with one file of a scan: read it, hash its pixels, keep what is listed."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.datadict import tag_for_keyword

from hospitium.imaging.files import is_picture_file, parse_image
from hospitium.imaging.geometry import Volume
from hospitium.imaging.identity import SiteKey
from hospitium.imaging.instance import (
    Instance,
    Limits,
    ReadOptions,
    Skip,
    Uids,
    is_constant,
)
from hospitium.imaging.nifti import read_nifti
from hospitium.imaging.reading import parse_dicom, pixel_sha256, read_bytes
from hospitium.imaging.scan_index import Record

_NIFTI = (".nii", ".nii.gz")
_KEYWORD = re.compile(r"\b[A-Z][A-Za-z]{3,63}\b")


def prepare(settings: bytes) -> Callable[[bytes], bytes]:
    """Return what turns a request into the line of a record; see `decode_pool.answers`."""
    values = json.loads(settings)
    reader = FileReader(
        root=Path(values["root"]),
        key=SiteKey(bytes.fromhex(values["key"])),
        options=ReadOptions(**values["options"]),
        limits=Limits(**values["limits"]),
        is_by_folder=values["is_by_folder"],
        denied=frozenset(values["denied"]),
        made_by=values["made_by"],
    )

    def answer(request: bytes) -> bytes:
        return reader.record(**json.loads(request)).as_line()

    return answer


class FileReader:
    """Makes the records of files below one root.

    Args:
        root: The folder that names of files are below.
        key: Names the hospital's identifiers.
        options: What the reader is asked for.
        limits: What is refused before it is decoded.
        is_by_folder: The files of one folder are one series where the UIDs are missing.
        denied: Digests of files that killed two workers.
        made_by: Written into each record.
    """

    def __init__(
        self,
        *,
        root: Path,
        key: SiteKey,
        options: ReadOptions,
        limits: Limits,
        is_by_folder: bool = False,
        denied: frozenset[str] = frozenset(),
        made_by: str = "",
    ) -> None:
        self._root = root
        self._key = key
        self._options = options
        self._limits = limits
        self._is_by_folder = is_by_folder
        self._denied = denied
        self._made_by = made_by

    def record(self, *, file: str, size: int, mtime_ns: int) -> Record:
        """Read one file; whatever is wrong with it, the answer is a record."""
        path = self._root / file
        known: Mapping[str, Any] = {
            "file": file,
            "size": size,
            "mtime_ns": mtime_ns,
            "made_by": self._made_by,
        }
        if self._denied and (digest := file_digest(path)) in self._denied:
            skip = Skip(reason="decode_failed", detail="on the deny list")
            return _skipped(skip, path, {**known, "digest": digest})
        return self.describe(self.read(path), path, known)

    def read(self, path: Path) -> Instance | Volume | Skip:
        """Read a file of any kind."""
        try:
            if path.name.lower().endswith(_NIFTI):
                return read_nifti(path, limits=self._limits)
            raw = read_bytes(path, limits=self._limits)
            if isinstance(raw, Skip):
                return raw
            if is_picture_file(raw):
                return parse_image(raw, where=str(path), limits=self._limits)
            return parse_dicom(raw, where=str(path), options=self._options, limits=self._limits)
        except MemoryError:
            return Skip(reason="too_large", detail="not enough memory")

    def describe(
        self, found: Instance | Volume | Skip, path: Path, known: Mapping[str, Any]
    ) -> Record:
        """Return the record of what was read.

        Args:
            found: What `read` gave.
            path: Where the file is.
            known: What its folder says: ``file``, ``size``, ``mtime_ns``, ``made_by``.
        """
        if isinstance(found, Skip):
            return _skipped(found, path, known)
        if isinstance(found, Instance):
            return self._of_instance(found, known)
        return self._of_volume(found, known)

    def _of_instance(self, found: Instance, known: Mapping[str, Any]) -> Record:
        uids, cautions = self._named(found, file=known["file"])
        if is_constant(found):
            cautions = (*cautions, "constant")
        shape = found.values.shape
        return Record(
            **known,
            status="read",
            notes=found.notes,
            cautions=tuple(dict.fromkeys(cautions)),
            shape=shape[1:] if shape[0] == 1 else shape,
            dtype=str(found.values.dtype),
            spacing_mm=found.facts.spacing_mm,
            photometric_in=found.facts.photometric,
            sha256_pixels=pixel_sha256(found),
            facts=found.facts,
            uids=self._key.pseudonyms(uids),
            digest=found.digest,
        )

    def _named(self, found: Instance, *, file: str) -> tuple[Uids, tuple[str, ...]]:
        """Return what the object is called; the folder stands in for UIDs where the site says."""
        uids, cautions = found.uids, found.cautions
        if not found.facts.sop_class or (uids.study and uids.series):
            return uids, cautions
        if not self._is_by_folder:
            return uids, (*cautions, "uid_missing")
        folder = f"folder:{file.rpartition('/')[0]}"
        return replace(uids, study=uids.study or folder, series=uids.series or folder), cautions

    def _of_volume(self, found: Volume, known: Mapping[str, Any]) -> Record:
        values = found.values[0] if len(found.values) == 1 else found.values
        spacing = np.sqrt(np.square(found.affine[:3, :3]).sum(axis=0))
        pixels = np.ascontiguousarray(values, dtype="<f4")
        return Record(
            **known,
            status="read",
            notes=found.notes,
            cautions=found.cautions,
            shape=values.shape,
            dtype=str(values.dtype),
            spacing_mm=tuple(float(f"{side:.6g}") for side in spacing if math.isfinite(side)),
            photometric_in=found.facts.photometric,
            sha256_pixels=hashlib.sha256(pixels.data).hexdigest(),
            facts=found.facts,
            uids=self._key.pseudonyms(found.uids),
            digest=found.digests[0] if found.digests else "",
        )


def _skipped(skip: Skip, path: Path, known: Mapping[str, Any]) -> Record:
    """Return the record of a file without an image; what its header says stays in the file."""
    if skip.reason == "unreadable_file":
        detail = access_of(path)
    elif skip.reason == "decode_failed" and known.get("digest"):
        detail = skip.detail
    else:
        detail = _keyword(skip.detail)
    return Record(**known, status="skipped", reason=skip.reason, detail=detail)


def _keyword(detail: str) -> str:
    """Return the DICOM keyword that a detail names; its value stays behind."""
    words = (word for word in _KEYWORD.findall(detail) if tag_for_keyword(word) is not None)
    return next(words, "")


def access_of(path: Path) -> str:
    """Return owner and mode of a file that cannot be opened, for whoever may change them."""
    try:
        status = path.stat()
    except OSError as error:
        return error.strerror or type(error).__name__
    try:
        owner = path.owner()
    except (KeyError, NotImplementedError, OSError):  # Windows, or an account that is gone
        owner = str(status.st_uid)
    account = str(os.getuid()) if hasattr(os, "getuid") else "this account"
    return f"owner {owner}, mode {status.st_mode & 0o7777:o}; read as user {account}"


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hex, empty where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""

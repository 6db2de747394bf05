"""One DICOM file -> `Instance`, or a `Skip` with its reason; the only reader of DICOM pixels."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hospitium.imaging.frame_values import frame_values, stored_frames
from hospitium.imaging.header import cautions, facts, header_notes, uids
from hospitium.imaging.image_object import ImageObject, image_object
from hospitium.imaging.instance import Header, Instance, Limits, ReadOptions, Skip, SkipError
from hospitium.imaging.pixels import check_size
from hospitium.imaging.placement import flips, placements, turned

_HEADER_BYTES = 1 << 15  # of most files; longer headers are read on
_SURELY_NOT_DICOM = 1 << 22
_MAY_GO_ON = frozenset({"truncated", "no_pixels", "missing_attribute"})


def read_bytes(path: Path, *, limits: Limits | None = None) -> bytes | Skip:
    """Return a file's bytes, or why they cannot be had: ``unreadable_file`` or ``too_large``."""
    limits = limits or Limits()
    try:
        if path.stat().st_size > limits.max_bytes:
            return Skip(reason="too_large", detail=f"{path}: more than {limits.max_bytes} bytes")
        return path.read_bytes()
    except OSError as error:
        return Skip(reason="unreadable_file", detail=str(error))


def read_dicom(
    path: Path, *, options: ReadOptions | None = None, limits: Limits | None = None
) -> Instance | Skip:
    """Read one DICOM file; whatever is wrong with it, the answer is a `Skip`, not an exception."""
    raw = read_bytes(path, limits=limits)
    if isinstance(raw, Skip):
        return raw
    return parse_dicom(raw, where=str(path), options=options, limits=limits)


def parse_dicom(
    raw: bytes,
    *,
    where: str = "",
    options: ReadOptions | None = None,
    limits: Limits | None = None,
) -> Instance | Skip:
    """Read one DICOM object from its bytes, as `read_dicom` does.

    Args:
        raw: A whole file, with or without preamble.
        where: Written into the detail of a skip.
        options: What a plan asks of the reader.
        limits: What is refused before it is decoded.
    """
    options, limits = options or ReadOptions(), limits or Limits()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = _instance(raw, options, limits)
        except SkipError as error:
            return Skip(reason=error.skip.reason, detail=f"{where}: {error.skip.detail}")
        except MemoryError:
            return Skip(reason="too_large", detail=f"{where}: more than there is memory for")
    notes = (*found.notes, "reader_warning") if caught else found.notes
    return replace(found, notes=tuple(dict.fromkeys(notes)))


def read_header(
    source: Path | bytes,
    *,
    options: ReadOptions | None = None,
    limits: Limits | None = None,
) -> Header | Skip:
    """Return what the header of an image object says, without decoding or reading its pixels.

    Args:
        source: A file, of which no more is read than needed, or the bytes of a whole one.
        options: As for `read_dicom`.
        limits: As for `read_dicom`.

    Returns:
        A header, or why this is no image. Whether the pixels can be read is not known yet.
    """
    options, limits = options or ReadOptions(), limits or Limits()
    where = "" if isinstance(source, bytes) else str(source)
    try:
        found = _header_object(source, options, limits)
        return _header(found, source, options)
    except SkipError as error:
        return Skip(reason=error.skip.reason, detail=f"{where}: {error.skip.detail}")
    except OSError as error:
        return Skip(reason="unreadable_file", detail=str(error))


def read_stored(raw: bytes, *, limits: Limits | None = None) -> npt.NDArray[Any] | Skip:
    """Return the stored values of all frames, before anything is made of them.

    ``(frame, row, column)`` integers; colour ``(frame, row, column, 3)``; of a palette its indices.
    """
    limits = limits or Limits()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = image_object(raw, ReadOptions(), limits)
            num_bytes = len(found.parsed.elements.walker.raw)
            check_size(found.format, found.place, num_bytes=num_bytes, limits=limits)
            return np.stack(list(stored_frames(found)))
        except SkipError as error:
            return error.skip


def pixel_sha256(instance: Instance) -> str:
    """Return the SHA-256 of the values: little-endian float32 in C order, colour uint8."""
    dtype = np.uint8 if instance.is_colour else np.dtype("<f4")
    digest = hashlib.sha256()
    for frame in instance.values:
        digest.update(np.ascontiguousarray(frame, dtype).data)
    return digest.hexdigest()


# --- the header --------------------------------------------------------------------------------


def _header_object(source: Path | bytes, options: ReadOptions, limits: Limits) -> ImageObject:
    """Read as much of a file as its header needs, eight times more whenever it is not enough."""
    if isinstance(source, bytes):
        return image_object(source, options, limits)
    size = source.stat().st_size
    if size > limits.max_bytes:
        raise SkipError("too_large", f"more than {limits.max_bytes} bytes")
    length = _HEADER_BYTES
    with source.open("rb") as stream:
        while True:
            stream.seek(0)
            raw = stream.read(length)
            try:
                return image_object(raw, options, limits)
            except SkipError as error:
                may_go_on = error.skip.reason in _MAY_GO_ON or (
                    error.skip.reason == "not_dicom" and length < _SURELY_NOT_DICOM
                )
                if not may_go_on or len(raw) >= size or len(raw) < length:
                    raise
                length *= 8


def _header(found: ImageObject, source: Path | bytes, options: ReadOptions) -> Header:
    elements = found.parsed.elements
    about, names = facts(elements, found.format, found.groups), uids(elements)
    notes = found.parsed.notes + header_notes(about)
    if not names.instance:
        raw = source if isinstance(source, bytes) else source.read_bytes()
        names = replace(names, instance=hashlib.sha256(raw).hexdigest())
        notes += ("no_instance_uid",)
    rows, columns, more = flips(elements)
    places = placements(elements, found.groups, num_frames=found.format.frames)
    if places and (rows or columns):
        shape = found.format.rows, found.format.columns
        places = tuple(turned(p, shape=shape, rows=rows, columns=columns) for p in places)
    return Header(
        facts=about,
        uids=names,
        placements=places,
        notes=tuple(dict.fromkeys(notes + more)),
        cautions=cautions(about, options),
    )


# --- the pixels --------------------------------------------------------------------------------


def _instance(raw: bytes, options: ReadOptions, limits: Limits) -> Instance:
    found = image_object(raw, options, limits)
    num_bytes = len(found.parsed.elements.walker.raw)
    notes = check_size(found.format, found.place, num_bytes=num_bytes, limits=limits)
    values, ends, valid, more = frame_values(found, options)
    header = _header(found, raw, options)
    rows, columns, _ = flips(found.parsed.elements)
    if rows or columns:
        turn = (
            slice(None),
            slice(None, None, -1 if rows else 1),
            slice(None, None, -1 if columns else 1),
        )
        values = values[turn].copy()
        valid = None if valid is None else valid[turn].copy()
    return Instance(
        values=values,
        range=ends,
        is_valid=valid,
        facts=header.facts,
        uids=header.uids,
        placements=header.placements,
        digest=hashlib.sha256(raw).hexdigest(),
        notes=header.notes + notes + more,
        cautions=header.cautions,
    )

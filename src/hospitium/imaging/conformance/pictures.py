"""Small pictures of a case: for the eye, for the hash, and for the polarity check."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from hospitium.imaging.conformance.case_facts import Levels
from hospitium.imaging.image_hash import averaged

THUMBNAIL = 48
"""Rows and columns of a thumbnail."""

MAX_THUMBNAILS = 20_000
"""Of so many cases, at most, thumbnails are kept: 46 MB."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601-7, 2.5.1
_ENOUGH = 256


def grey(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return ``(row, column)`` of a grey or a colour image ``(row, column, 3)``."""
    return values.astype(np.float32) @ _LUMA if values.ndim == 3 else values


def picture_of(plane: npt.NDArray[np.float32], levels: Levels) -> npt.NDArray[np.float32]:
    """Return ``(row, column)`` in [0, 1].

    The 1st and 99th percentile become black and white. Where the shorter side is 512 or more,
    whole blocks are averaged.
    """
    coarse = _coarse(plane)
    scaled = (coarse - np.float32(levels.low)) * np.float32(1 / max(levels.spread, 1e-12))
    return np.clip(scaled, 0, 1, out=scaled)


def thumbnail_of(picture: npt.NDArray[np.float32]) -> bytes:
    """Return ``THUMBNAIL x THUMBNAIL`` grey levels; the picture is padded with black to square."""
    side = max(picture.shape)
    square = np.zeros((side, side), np.float32)
    top, left = ((side - length) // 2 for length in picture.shape)
    square[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    small = averaged(averaged(square, THUMBNAIL).T, THUMBNAIL).T
    return np.round(np.clip(small, 0, 1) * 255).astype(np.uint8).tobytes()


def as_data_uri(thumbnail: bytes) -> str:
    """Return a thumbnail as a PNG that stands inside of a page."""
    stored = io.BytesIO()
    Image.frombytes("L", (THUMBNAIL, THUMBNAIL), thumbnail).save(stored, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stored.getvalue()).decode()}"


def _coarse(plane: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Average whole blocks, so that the shorter side keeps 256 pixels or more."""
    step = max(1, min(plane.shape) // _ENOUGH)
    if step == 1:
        return plane.copy()
    rows, columns = (length // step for length in plane.shape)
    blocks = plane[: rows * step, : columns * step].reshape(rows, step, columns, step)
    return np.asarray(blocks.mean(axis=(1, 3)), dtype=np.float32)

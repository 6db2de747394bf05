"""Reading single DICOM attributes: what they must be, or a `SkipError`; never another exception."""

from __future__ import annotations

import math
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from hospitium.imaging.instance import SkipError


def attribute(dataset: Dataset, keyword: str) -> Any:
    """Return an attribute's value, None if it is absent or empty.

    Raises:
        SkipError: ``bad_attribute``: its bytes do not parse.
    """
    try:  # pydicom converts on first access and raises whatever the conversion raises
        value = dataset.get(keyword)
    except Exception as error:
        raise SkipError("bad_attribute", f"{keyword}: {error}") from error
    if value is None or (isinstance(value, str | bytes | MultiValue) and len(value) == 0):
        return None
    return value


def text(dataset: Dataset, keyword: str) -> str:
    """Return an attribute as one stripped line, empty if it is absent or does not parse.

    Several values are joined by a backslash, as they are stored.
    """
    try:
        value = attribute(dataset, keyword)
    except SkipError:
        return ""
    if value is None:
        return ""
    parts = value if isinstance(value, MultiValue | list) else [value]
    return "\\".join(str(part).strip() for part in parts)


def integer(dataset: Dataset, keyword: str, *, default: int | None = None) -> int:
    """Return a whole number.

    Raises:
        SkipError: ``missing_attribute`` if it is absent without a default, ``bad_attribute``.
    """
    value = attribute(dataset, keyword)
    if value is None:
        if default is None:
            raise SkipError("missing_attribute", keyword)
        return default
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise SkipError("bad_attribute", f"{keyword} = {value!r}") from error


def number(dataset: Dataset, keyword: str) -> float | None:
    """Return a finite number, None if it is absent.

    Raises:
        SkipError: ``bad_attribute``: not one finite number.
    """
    value = attribute(dataset, keyword)
    if value is None:
        return None
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise SkipError("bad_attribute", f"{keyword} = {value!r}") from error
    if not math.isfinite(result):
        raise SkipError("bad_attribute", f"{keyword} = {value!r}")
    return result


def spacing_mm(dataset: Dataset) -> tuple[float, float] | None:
    """Return the distance of rows and of columns, None where it is absent, 0 or illegible.

    In projections ``PixelSpacing`` may be calibrated, the others are at the detector or the
    film (PS3.3 10.7.1.1 to .3).
    """
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        try:
            row, column = (float(part) for part in attribute(dataset, keyword) or ())
        except (SkipError, TypeError, ValueError, OverflowError):
            continue
        if 0 < row < math.inf and 0 < column < math.inf:
            return row, column
    return None

"""Words and numbers of a label column -> class indices; words of a split column -> splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hospitium.errors import DataError

MISSING = -1
_MISSING_WORDS = frozenset({"", "?", "na", "n/a", "nan"})
_NEGATIVE_WORDS = frozenset(
    {"normal", "no finding", "no findings", "negative", "benign", "healthy", "0", "no", "false"}
)
_MAX_CLASSES = 200
_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "tr"), 0),
    **dict.fromkeys(("val", "valid", "validation", "dev", "tune"), 1),
    **dict.fromkeys(("test", "testing", "holdout", "hold out"), 2),
}


def encode_labels(
    values: Sequence[str], *, where: str, classes: Sequence[str] | None = None
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Return the class index of each value (-1: no label) and the classes.

    Whole numbers are sorted as numbers. Words are compared without case and surplus spaces, keep
    their first spelling and are sorted as text; of two classes, one that is called normal, no
    finding, negative, benign, healthy, 0, no or false comes first, so that the last is
    "positive". Empty, ``?``, ``NA`` and ``-1`` are no label.

    With ``classes`` the labels must be among these names, or be their numbers from 0; then the
    values may be of one class only, and the classes are returned as they were given.

    Raises:
        DataError: Fewer than two classes, or so many that this is no label; or a label that is
            none of the given classes.
    """
    keys = [_key(value) for value in values]
    if classes is not None:
        return _encode_given(keys, tuple(classes), where=where), tuple(classes)
    spelling: dict[str, str] = {}
    for key, value in zip(keys, values, strict=True):
        if key is not None:
            spelling.setdefault(key, " ".join(value.split()))
    numbers = {key: _whole(key) for key in spelling}
    if all(number is not None for number in numbers.values()):
        order = sorted(spelling, key=lambda key: numbers[key] or 0)
        spelling = {key: key for key in spelling}
    else:
        order = sorted(spelling)
        if len(order) == 2 and order[1] in _NEGATIVE_WORDS and order[0] not in _NEGATIVE_WORDS:
            order.reverse()
    if not 2 <= len(order) <= _MAX_CLASSES:
        raise DataError(
            f"{where}: {len(order)} different labels found, expected 2 to {_MAX_CLASSES}"
            f"{': only ' + repr(spelling[order[0]]) if len(order) == 1 else ''}. Nothing was "
            "read. Check that this is the column of labels, and name another one if not."
        )
    index = {key: number for number, key in enumerate(order)}
    encoded = [MISSING if key is None else index[key] for key in keys]
    return np.array(encoded, dtype=np.int64), tuple(spelling[key] for key in order)


def _encode_given(
    keys: Sequence[str | None], classes: tuple[str, ...], *, where: str
) -> npt.NDArray[np.int64]:
    """Return the index of each label among given classes, by name, or else by number."""
    by_name = {_key(name): number for number, name in enumerate(classes)}
    by_number: dict[str | None, int] = {str(number): number for number in range(len(classes))}
    found = {key for key in keys if key is not None}
    index = min(by_name, by_number, key=lambda known: len(found - set(known)))
    unknown = sorted(found - set(index))
    if unknown:
        counts = Counter(keys)
        listed = ", ".join(f"{word!r} ({counts[word]} x)" for word in unknown[:5])
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise DataError(
            f"{where}: {listed}{more}: none of the plan's classes {list(classes)}. "
            "Nothing was read. Mend the labels, or name the classes in the plan as they are here; "
            "a row without a label is left out and counted."
        )
    return np.array([MISSING if key is None else index[key] for key in keys], dtype=np.int64)


def encode_splits(values: Sequence[str]) -> list[int | None]:
    """Return the index into ``SPLITS`` of each value, None for a word that is not known."""
    return [_SPLIT_WORDS.get(_words(value)) for value in values]


def _key(value: str) -> str | None:
    """Return what makes two labels equal; None for no label."""
    words = _words(value)
    number = _whole(words)
    if words in _MISSING_WORDS or number == -1:
        return None
    return words if number is None else str(number)


def _words(value: str) -> str:
    return " ".join(value.casefold().replace("_", " ").split())


def _whole(text: str) -> int | None:
    """Return the whole number that a text writes, as ``2``, ``02`` or ``2.0``; else None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() and abs(number) < 1e15 else None

"""What a PACS is asked and what it answers, alike for DICOMweb and DIMSE; keys are exact."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from hospitium.errors import UsageError
from hospitium.imaging.instance import Uids

KEYS = {
    "PatientID": "patient",
    "AccessionNumber": "accession",
    "StudyInstanceUID": "study",
}
"""Attributes that name what is wanted, one query each, and their field of `Uids`."""

_DATE = re.compile(r"\d{8}")
_UID = re.compile(r"[0-9][0-9.]{0,63}")
_MODALITY = re.compile(r"[A-Z0-9]{1,16}")
_WILDCARDS = frozenset("*?\\")


@dataclass(frozen=True, kw_only=True)
class Query:
    """Which studies are looked for.

    Attributes:
        key: One of ``KEYS``, or empty: all studies of these dates and modalities.
        values: What the key may be, each exactly; asked one by one.
        modalities: ``ModalitiesInStudy``; empty: any.
        dates: First and last ``StudyDate``, ``YYYYMMDD``, either may be empty.
    """

    key: str = ""
    values: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    dates: tuple[str, str] = ("", "")

    def __post_init__(self) -> None:
        if self.key and self.key not in KEYS:
            raise UsageError(
                f"Query: the key is {self.key!r}, expected one of {', '.join(KEYS)}. Nothing was "
                "asked. Change the key."
            )
        for value in self.values:
            check_exact(self.key, value)
        for modality in self.modalities:
            if not _MODALITY.fullmatch(modality):
                raise _usage("Modality", modality, "two to sixteen capitals or digits, as CR")
        for date in self.dates:
            if date and not _DATE.fullmatch(date):
                raise _usage("StudyDate", date, "a date as 20240131")
        if not (self.values or self.modalities or any(self.dates)):
            raise UsageError(
                "Query: it asks for every study there is. Nothing was asked. Give a key with "
                "values, a Modality or a StudyDate."
            )

    def filters(self) -> Iterator[dict[str, str]]:
        """Yield the matching keys of each query to send; values once each, in order."""
        first, last = self.dates
        dates = f"{first}-{last}" if first or last else ""
        common = {"StudyDate": dates} if dates else {}
        for modality in dict.fromkeys(self.modalities) or ("",):
            wanted = {**common, **({"ModalitiesInStudy": modality} if modality else {})}
            if not self.key:
                yield wanted
            for value in dict.fromkeys(self.values):
                yield {**wanted, self.key: value}


def parse_query(words: Sequence[str]) -> Query:
    r"""Read a query from ``Keyword=value`` words, as a command line gives them.

    ``Modality`` may be several, with commas; ``StudyDate`` one day, or two with a dash between,
    either of them open; ``PatientID``, ``AccessionNumber`` and ``StudyInstanceUID`` several.

    Raises:
        UsageError: An unknown keyword, two kinds of key, or a value with ``*``, ``?`` or ``\``.

    Example:
        >>> parse_query(["Modality=DX,CR", "StudyDate=20200101-"]).dates
        ('20200101', '')
    """
    found: dict[str, list[str]] = {}
    for word in words:
        keyword, is_pair, value = word.partition("=")
        if not is_pair or keyword not in (*KEYS, "Modality", "StudyDate"):
            raise UsageError(
                f"Query: found {word!r}, expected Keyword=value with one of "
                f"{', '.join((*KEYS, 'Modality', 'StudyDate'))}. Nothing was asked. Change it."
            )
        found.setdefault(keyword, []).extend(part.strip() for part in value.split(","))
    named = [keyword for keyword in KEYS if keyword in found]
    days = found.get("StudyDate", [""])
    if len(named) > 1 or len(days) > 1:
        raise UsageError(
            f"Query: {', '.join(named) if len(named) > 1 else 'StudyDate'} given together or more "
            "than once, expected one kind of key and one range. Nothing was asked. Choose one."
        )
    first, is_range, last = days[0].partition("-")
    return Query(
        key=named[0] if named else "",
        values=tuple(found[named[0]]) if named else (),
        modalities=tuple(found.get("Modality", ())),
        dates=(first, last if is_range else first),
    )


def check_exact(key: str, value: str) -> None:
    r"""Refuse a value that a PACS would not take literally.

    ``*`` and ``?`` match anything, ``\`` separates values (PS3.4 C.2.2.2): ``PatientID = *`` is
    every patient there is.

    Raises:
        UsageError: It holds one of these, is empty, has control characters, or is no UID.
    """
    if not value.strip() or not value.isprintable():
        raise _usage(key, value, "a printable value")
    if _WILDCARDS & set(value):
        raise _usage(key, value, "no *, ? or \\: keys are exact")
    if key.endswith("UID") and not _UID.fullmatch(value):
        raise _usage(key, value, "a UID: digits and dots")


def _usage(key: str, value: str, expected: str) -> UsageError:
    return UsageError(
        f"Query: {key} is {value!r}, expected {expected}. Nothing was asked. Mend this value."
    )


@dataclass(frozen=True, kw_only=True)
class StudyFound:
    """A study as the PACS describes it; it stays at the site.

    Attributes:
        age: ``PatientAge`` in whole years where the PACS tells it, None else.
        num_instances: ``NumberOfStudyRelatedInstances``, None where the PACS does not tell.
    """

    uids: Uids
    date: str = ""
    modalities: tuple[str, ...] = ()
    description: str = ""
    birth_date: str = ""
    age: int | None = None
    num_instances: int | None = None


@dataclass(frozen=True, kw_only=True)
class SeriesFound:
    """A series as the PACS describes it; it stays at the site."""

    study: str
    uid: str
    modality: str = ""
    description: str = ""
    body_part: str = ""
    age: int | None = None


@dataclass(frozen=True, kw_only=True)
class InstanceFound:
    """An instance as the PACS describes it."""

    uid: str
    sop_class: str = ""


@dataclass(frozen=True, kw_only=True)
class Capability:
    """What a PACS can do, as a probe found it.

    Attributes:
        answers: What each probe gave, in words.
    """

    kind: str
    address: str
    answers: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return asdict(self)


class StudyFailedError(Exception):
    """One study could not be fetched; the others may. It never leaves `hospitium.imaging`."""


class Sink(Protocol):
    """Where the instances of one series go while they are fetched."""

    def is_wanted(self, uid: str) -> bool:
        """Return whether this instance is still to be fetched."""

    def take(self, chunks: Iterable[bytes], *, uid: str = "") -> None:
        """Keep one instance; without ``uid`` the file itself says which it is.

        Raises:
            StudyFailedError: It is no DICOM file, or larger than the limit.
            HospitiumError: The whole fetch must stop: quota, disk, time window.
        """


class Pacs(Protocol):
    """A PACS that is asked and read, never written to.

    Any call may raise a `PacsError`: nothing more can be asked of it now.
    """

    def probe(self) -> Capability:
        """Ask what it can do."""

    def studies(self, query: Query) -> Iterator[StudyFound]:
        """Yield the studies that match exactly, each once."""

    def series(self, study: str) -> list[SeriesFound]:
        """Return the series of a study."""

    def instances(self, study: str, series: str) -> list[InstanceFound]:
        """Return the instances of a series."""

    def fetch(self, series: SeriesFound, instances: Sequence[InstanceFound], sink: Sink) -> None:
        """Send the instances of a series that are wanted into the sink.

        Raises:
            StudyFailedError: The PACS could not give this series.
        """

    def close(self) -> None:
        """Let go of connections."""


def is_exact(study: StudyFound, wanted: Mapping[str, str]) -> bool:
    """Return whether an answer is what was asked for, whatever the PACS thinks of matching."""
    for key, name in KEYS.items():
        if key in wanted and getattr(study.uids, name).strip() != wanted[key].strip():
            return False
    modality = wanted.get("ModalitiesInStudy")
    if modality and study.modalities and modality not in study.modalities:
        return False
    first, _, last = wanted.get("StudyDate", "").partition("-")
    return not (first and study.date < first) and not (last and study.date > last)


def is_uid(text: str) -> bool:
    """Return whether this may be a UID: digits and dots, as real archives have them."""
    return bool(_UID.fullmatch(text))


def years(text: str) -> int | None:
    """Return whole years of a DICOM age string (PS3.5 6.2, AS), None if it is none.

    Example:
        >>> years("073Y"), years("018M"), years("old")
        (73, 1, None)
    """
    days = {"D": 1, "W": 7, "M": 30, "Y": 365}
    if not re.fullmatch(r"\d{3}[DWMY]", text):
        return None
    return int(text[:3]) * days[text[3]] // 365

"""Fetches chosen studies onto a shelf: complete ones, politely, and what is there never again."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pydicom.filereader import read_file_meta_info

from hospitium.errors import PacsError
from hospitium.imaging.instance import Uids
from hospitium.imaging.sources.pace import Pace
from hospitium.imaging.sources.queries import (
    InstanceFound,
    Pacs,
    SeriesFound,
    StudyFailedError,
    StudyFound,
)
from hospitium.imaging.sources.shelf import Shelf

FILES = "files"
_LOG = logging.getLogger(__name__)
_MAX_LOOKS = 3
_MAX_FAILED_IN_A_ROW = 5
Progress = Callable[[int, int], None]


class Key(Protocol):
    """What gives keyed names in place of a hospital's own; `SiteKey` does."""

    def pseudonyms(self, uids: Uids) -> Uids:
        """Return the same object with a keyed name for each value."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A study of the cohort, and those of its series that are wanted."""

    study: StudyFound
    series: tuple[SeriesFound, ...]
    label: str = ""


@dataclass(kw_only=True)
class Outcome:
    """What became of the chosen studies.

    Attributes:
        done: Those whose wanted series are on the shelf, whole.
        reasons: Why others are not: by study UID, a code of ``FLOW_REASONS``.
        causes: In words, for the site's own staff.
        num_fetched: Instances that were fetched now.
    """

    done: list[Chosen] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    causes: dict[str, str] = field(default_factory=dict)
    num_fetched: int = 0


def series_folder(key: Key, series: SeriesFound) -> str:
    """Return the folder of a series on the shelf, under its keyed name."""
    return f"{FILES}/{key.pseudonyms(Uids(study=series.study, series=series.uid)).series}"


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What a study held at one moment; ``instances`` of the wanted series alone."""

    moment: float
    count: int
    instances: Mapping[str, Sequence[InstanceFound]] = field(default_factory=dict)


class Fetch:
    """Fetches studies from one PACS onto one shelf."""

    def __init__(self, pacs: Pacs, shelf: Shelf, key: Key, pace: Pace) -> None:
        self._pacs = pacs
        self._shelf = shelf
        self._key = key
        self._pace = pace
        self._quiet_s = pace.settings.quiet_s
        self._outcome = Outcome()
        self._num_failed_in_a_row = 0

    def all(self, chosen: Sequence[Chosen], progress: Progress | None = None) -> Outcome:
        """Fetch these studies; one that fails is tried once more, then left out with its cause.

        A study is complete when it has not grown for ``quiet_s`` and holds as many instances as
        the PACS says. So each is counted before the first is fetched, and again at its turn.

        Raises:
            PacsError: The PACS cannot be reached any more, or five studies in a row failed.
            StorageError: The quota or the disk.
        """
        waiting = deque((item, self._count(item), 1) for item in chosen)
        failed: list[Chosen] = []
        while waiting:
            item, before, num_looks = waiting.popleft()
            self._pace.wait_until(before.moment + self._quiet_s)
            now = self._look(item)
            if self._is_growing(item, before, now) and num_looks < _MAX_LOOKS:
                waiting.append((item, _Look(moment=now.moment, count=now.count), num_looks + 1))
            elif not self._finish(item, before, now):
                failed.append(item)
            self._tell(progress, len(chosen))
        for item in failed:
            now = self._look(item)
            self._finish(item, now, now)
            self._tell(progress, len(chosen))
        return self._outcome

    def _tell(self, progress: Progress | None, total: int) -> None:
        if progress:
            progress(len(self._outcome.done) + len(self._outcome.reasons), total)

    def _count(self, item: Chosen) -> _Look:
        """Count a study for the first time; where nobody waits, that can be left to its turn."""
        if not self._quiet_s:
            return _Look(moment=self._pace.clock(), count=-1)
        look = self._look(item)
        return _Look(moment=look.moment, count=look.count)

    def _look(self, item: Chosen) -> _Look:
        self._pace.check_open()
        study, wanted = item.study.uids.study, {series.uid for series in item.series}
        count, instances = 0, dict[str, Sequence[InstanceFound]]()
        for series in self._pacs.series(study):
            found = self._pacs.instances(study, series.uid)
            count += len(found)
            if series.uid in wanted:
                instances[series.uid] = found
        return _Look(moment=self._pace.clock(), count=count, instances=instances)

    def _is_growing(self, item: Chosen, before: _Look, now: _Look) -> bool:
        is_short = now.count < (item.study.num_instances or 0)
        return now.count > 0 and (is_short or before.count not in (-1, now.count))

    def _finish(self, item: Chosen, before: _Look, now: _Look) -> bool:
        """Fetch a study or note why not; return whether this is settled."""
        uid = item.study.uids.study
        if not any(now.instances.values()):
            self._leave_out(uid, "empty_study", f"{now.count} images, none in a wanted series")
        elif self._is_growing(item, before, now):
            told = item.study.num_instances
            self._leave_out(uid, "incomplete_study", f"{now.count} images now, {told} told")
        else:
            return self._fetch(item, now)
        return True

    def _leave_out(self, uid: str, reason: str, cause: str) -> None:
        self._outcome.reasons[uid], self._outcome.causes[uid] = reason, cause
        _LOG.info("left out: %s: %s", reason, cause)

    def _fetch(self, item: Chosen, now: _Look) -> bool:
        uid = item.study.uids.study
        try:
            for series in item.series:
                self._series(series, now.instances.get(series.uid, ()))
        except StudyFailedError as error:
            self._num_failed_in_a_row += 1
            is_second_time = uid in self._outcome.reasons
            self._leave_out(uid, "import_failed", str(error))
            self._stop_if_hopeless(str(error))
            return is_second_time
        self._num_failed_in_a_row = 0
        self._outcome.reasons.pop(uid, None)
        self._outcome.causes.pop(uid, None)
        self._outcome.done.append(item)
        return True

    def _series(self, series: SeriesFound, instances: Sequence[InstanceFound]) -> None:
        folder = series_folder(self._key, series)
        files = {found.uid: f"{folder}/{self._name(found.uid)}.dcm" for found in instances}
        sink = _SeriesSink(shelf=self._shelf, folder=folder, files=files, pace=self._pace)
        try:
            if not all(file in self._shelf for file in files.values()):
                self._pacs.fetch(series, instances, sink)
        finally:
            self._outcome.num_fetched += sink.num_taken
        num_missing = sum(file not in self._shelf for file in files.values())
        if num_missing:
            raise StudyFailedError(f"{num_missing} of {len(files)} instances did not come")

    def _name(self, uid: str) -> str:
        return self._key.pseudonyms(Uids(instance=uid)).instance

    def _stop_if_hopeless(self, cause: str) -> None:
        if self._num_failed_in_a_row < _MAX_FAILED_IN_A_ROW:
            return
        settings = self._pace.settings
        raise PacsError(
            f"PACS {settings.name} ({settings.address}): {_MAX_FAILED_IN_A_ROW} studies in a row "
            f"could not be fetched, the last one because of: {cause}. {len(self._shelf)} instances "
            "are kept whole. Ask the PACS administrator what its log says of these, then run the "
            "same command again: it goes on where it stopped."
        )


@dataclass(kw_only=True)
class _SeriesSink:
    """Puts the instances of one series on the shelf under their keyed names."""

    shelf: Shelf
    folder: str
    files: Mapping[str, str]
    pace: Pace
    num_taken: int = 0

    def is_wanted(self, uid: str) -> bool:
        """Return whether this instance is of the series and not on the shelf."""
        return uid in self.files and self.files[uid] not in self.shelf

    def take(self, chunks: Iterable[bytes], *, uid: str = "") -> None:
        """Keep one instance; see `Sink`."""
        self.pace.instance()
        part, written = self.shelf.write(chunks, folder=self.folder)
        try:
            uid = uid or _uid_of(part)
            if self.is_wanted(uid):
                self.shelf.keep(part, written, file=self.files[uid])
                self.num_taken += 1
        finally:
            part.unlink(missing_ok=True)


def _uid_of(path: Path) -> str:
    """Return the SOPInstanceUID that a file's head tells."""
    try:  # on damaged bytes pydicom raises whatever its converters raise
        return str(read_file_meta_info(path).MediaStorageSOPInstanceUID)
    except Exception as error:
        raise StudyFailedError("the PACS sent something that is no DICOM file") from error

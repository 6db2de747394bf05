"""What a person can do with the fingerprint of a site's data: look at it, then hand it over.

It is made in two steps, so that what leaves is what was looked at: `prepare_fingerprint` keeps the
exact bytes at the site, `hand_over` lets these bytes leave, and no others.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hospitium.errors import UsageError
from hospitium.imaging.fingerprint.data import Capacity
from hospitium.imaging.fingerprint.gathering import Gathered, gather
from hospitium.imaging.fingerprint.release import explain, silent, suppress, to_bytes, withhold
from hospitium.imaging.suppression import LEAST
from hospitium.operations.progress import Say
from hospitium.operations.progress import silent as say_nothing
from hospitium.operations.site_data import DataSet, find_data, make_site_folder
from hospitium.plan import Plan, load_plan
from hospitium.plan.checking import problems_of
from hospitium.site.departures import LOG, Departures
from hospitium.site.egress import Egress
from hospitium.site.membership import memberships
from hospitium.site.record import departures_of
from hospitium.state import durable
from hospitium.state.home import Home
from hospitium.training import TrainingCases
from hospitium.training.machine import gpu_memory_bytes, memory_bytes
from hospitium.training.trial import try_step

_PREPARED = "fingerprint.json"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A fingerprint that waits for a person to let it leave.

    Attributes:
        payload: Exactly the bytes that would leave.
        fields: Each field that leaves: its name, what it means in words, and its counts.
        silent: Fields of which nothing leaves.
        num_subjects: As they are; stays at the site.
        skipped: How many files gave nothing, by reason; stays at the site.
        seconds: How long reading took.
    """

    payload: bytes
    fields: Sequence[dict[str, Any]]
    silent: Sequence[str]
    num_subjects: int
    skipped: dict[str, int]
    seconds: float

    @property
    def sha256(self) -> str:
        """What the bytes are approved by."""
        return hashlib.sha256(self.payload).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, the bytes as text."""
        return {
            "fields": list(self.fields),
            "silent": list(self.silent),
            "payload": self.payload.decode(),
            "bytes": len(self.payload),
            "sha256": self.sha256,
            "local": {
                "num_subjects": self.num_subjects,
                "skipped": self.skipped,
                "seconds": round(self.seconds, 3),
            },
        }


def prepare_fingerprint(
    home: Home,
    source: str,
    *,
    plan: Path | None = None,
    labels: Path | None = None,
    least: int = LEAST,
    without: Sequence[str] = (),
    hours: float | None = None,
    say: Say = say_nothing,
) -> Prepared:
    """Read a data set and return what of its fingerprint may leave; nothing leaves.

    Args:
        home: Of this installation.
        source: The name of a data set, or a folder or file.
        plan: Whose classes are counted, and whose training step is timed.
        labels: A table of labels; else the data set's own, or the one that lies in the folder.
        least: Counts below it are suppressed; 10 or more.
        without: Fields that shall not leave.
        hours: Of a day in which this machine may train.
        say: Told how many files were read.

    Raises:
        UsageError: There is no such data set or field, or ``least`` is below 10.
        DataError: No image can be read.
    """
    agreed = load_plan(plan) if plan else None
    data_set = find_data(home, source)
    gathered = _gathered(data_set, labels, agreed, say)
    raw = gathered.fingerprint
    capacity = _capacity(gathered, agreed, hours)
    shown = withhold(suppress(replace(raw, capacity=(capacity,)), least=least), without)
    prepared = Prepared(
        payload=to_bytes(shown),
        fields=explain(shown),
        silent=silent(shown),
        num_subjects=raw.num_subjects,
        skipped=dict(sorted(gathered.skipped.items())),
        seconds=gathered.seconds,
    )
    make_site_folder(home, data_set.folder)
    durable.write_atomically(
        data_set.folder / _PREPARED, lambda file: str(file.write(prepared.payload))
    )
    return prepared


def hand_over(home: Home, source: str, *, sha256: str, out: Path) -> dict[str, Any]:
    """Let the fingerprint that was prepared last leave, as a file.

    Args:
        home: Of this installation.
        source: As it was prepared.
        sha256: Of the bytes that were looked at, or the first 8 or more characters of it.
        out: The file to write.

    Raises:
        UsageError: Nothing was prepared, or other bytes than these. Nothing left the site.
    """
    data_set = find_data(home, source)
    try:
        payload = (data_set.folder / _PREPARED).read_bytes()
    except FileNotFoundError as error:
        raise UsageError(
            f"{source}: no fingerprint was prepared. Nothing left the site. Look at it first, with "
            f"`hospitium site data fingerprint {source} --dry-run`."
        ) from error
    found = hashlib.sha256(payload).hexdigest()
    if len(sha256) < 8 or not found.startswith(sha256.lower()):
        raise UsageError(
            f"{source}: the fingerprint that was prepared last is {found[:12]}…, approved is "
            f"{sha256[:12]}… (at least 8 characters). Nothing left the site. Look at it again, "
            "with --dry-run, and approve what you see."
        )
    with durable.storage_errors(out):
        fingerprint_egress(home).hand_over_fingerprint(payload, path=out)
    return {"path": str(out), "bytes": len(payload), "sha256": found}


def fingerprint_egress(home: Home) -> Egress:
    """Return the way out for a file that a person carries to whom they will.

    It is recorded with the one federation that this site takes part in; where there is none or
    several, in a record of the site's own, which no key signs.
    """
    places = memberships(home.folder)
    own = Departures(home.folder / "site" / LOG)
    found = departures_of(places[0]) if len(places) == 1 else own
    return Egress(found, destination="a file that a person took")


def _gathered(data_set: DataSet, labels: Path | None, plan: Plan | None, say: Say) -> Gathered:
    return gather(
        data_set.path,
        labels=labels or data_set.labels,
        classes=plan.task.classes if plan else None,
        progress=lambda done, of: say(
            {"kind": "count", "text": "files read", "done": done, "of": of}
        ),
    )


def _capacity(gathered: Gathered, plan: Plan | None, hours: float | None) -> Capacity:
    """Return what this machine can do, in two digits: more would tell which machine it is."""
    memory = memory_bytes()
    steps_s = _steps_s(plan) if plan else None
    return Capacity(
        memory_gib=None if memory is None else _two_digits(memory / 2**30),
        gpu_memory_gib=_two_digits(gpu_memory_bytes() / 2**30),
        cores=os.cpu_count(),
        read_mb_s=_two_digits(gathered.read_mb_s),
        steps_s=_two_digits(steps_s),
        hours=hours,
    )


def _steps_s(plan: Plan) -> float | None:
    """Return steps in a second on invented images; None for what this version cannot train."""
    if problems_of(plan):
        return None
    steps = plan.imaging.pipeline
    number, num_classes = plan.training.batch_size, len(plan.task.classes)
    rng = np.random.default_rng(0)
    images = rng.random((number, steps.channels, *steps.size), np.float32)
    labels = np.arange(number, dtype=np.int64) % num_classes
    cases = TrainingCases(
        images=images, rows=np.arange(number), labels=labels, mean=0.5, sd=0.3
    )  # fmt: skip
    step_s = try_step(plan, cases).step_s
    return None if step_s is None else 1 / max(step_s, 1e-6)


def _two_digits(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.2g}")

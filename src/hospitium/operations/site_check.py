"""What a person can do before joining: check a site's data against a plan, and read the report.

Nothing here leaves the site. The report is written beside the data set's own index; the part of it
that may leave is shown first, and waits for somebody's approval.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from hospitium import __version__
from hospitium.errors import DataError, InterruptedRunError, PlanError, UsageError, VersionError
from hospitium.imaging.conformance import (
    Capacity,
    Earlier,
    Inventory,
    Report,
    Surroundings,
    gather,
    run_checks,
)
from hospitium.imaging.conformance.case_facts import content_digest
from hospitium.imaging.conformance.page import render_page
from hospitium.imaging.conformance.sampling import sample_cases
from hospitium.imaging.fingerprint.reader import reader_differences, reader_fingerprint
from hospitium.imaging.suppression import LEAST, Suppression
from hospitium.operations.progress import Say, silent
from hospitium.operations.site_data import DataSet, find_data, make_site_folder
from hospitium.plan import Plan, load_plan
from hospitium.plan.checking import problems_of
from hospitium.state import durable
from hospitium.state.home import Home
from hospitium.training import TrainingCases
from hospitium.training.trial import try_step

_RECORD = "check.json"
_VERSION = 1


def check_data(
    home: Home,
    source: str,
    *,
    plan: Path,
    labels: Path | None = None,
    out: Path | None = None,
    workers: int | None = None,
    least: int = LEAST,
    say: Say = silent,
) -> dict[str, Any]:
    """Check a data set against a plan and write the report, as a page and as JSON.

    Args:
        home: Of this installation.
        source: The name of a data set, or a folder or file.
        plan: A plan file. It may ask for what this version cannot train yet, as segmentation.
        labels: A table of labels; else the data set's own, or the one that lies in the folder.
        out: Where the report is to be; else beside the data set's index.
        workers: Processes that decode; None: one for each core; 0 decodes in this process.
        least: Counts below it are hidden in the part that may leave.
        say: Told how many cases were read.

    Returns:
        The report as plain values, with the paths of its files and what may leave the site.

    Raises:
        UsageError: There is no such data set, or the plan cannot be read.
        StorageError: The report cannot be written.
    """
    suppression, agreed = Suppression(least=least), _plan(plan)
    data_set = find_data(home, source)
    make_site_folder(home, data_set.folder)
    folder = durable.make_folder(out or data_set.folder / "check")
    before = _listing(data_set.path)
    inventory, problem = _inventory(data_set, agreed, labels, _num_workers(workers), say)
    has_changed = not problem and _listing(data_set.path) != before
    record = data_set.folder / _RECORD
    report = run_checks(
        inventory,
        agreed,
        Surroundings(
            capacity=_capacity(home, data_set.path, inventory, agreed),
            reader_differences=[str(one) for one in reader_differences(reader_fingerprint())],
            source_problem=problem,
            earlier=_earlier(record),
            has_changed_meanwhile=has_changed,
        ),
        data=data_set.name or data_set.path.name,
    )
    if not problem:
        _remember(record, report)
    return _written(report, folder, suppression)


def _plan(path: Path) -> Plan:
    """Read the plan; one that cannot be read makes this a wrong call."""
    try:
        return load_plan(path)
    except (PlanError, VersionError) as error:
        raise UsageError(f"{error}\nThe data were not read.") from error


def _inventory(
    data_set: DataSet, plan: Plan, labels: Path | None, num_workers: int, say: Say
) -> tuple[Inventory, str]:
    """Return what was found, or an empty inventory and why the source gave nothing."""
    empty = Inventory(kind="folder", cases=())
    if not data_set.path.exists():
        return empty, f"{data_set.path} is not there: is the drive mounted?"
    try:
        found = gather(
            data_set.path,
            plan=plan,
            labels=labels or data_set.labels,
            num_workers=num_workers,
            progress=lambda done, of: say(
                {"kind": "count", "text": "cases read", "done": done, "of": of}
            ),
        )
    except DataError as error:
        return empty, str(error)
    except KeyboardInterrupt as stop:
        raise InterruptedRunError(
            "The check was interrupted. Nothing was written; the report of the last check is as "
            "it was. Run the same command again."
        ) from stop
    return found, ""


def _capacity(home: Home, path: Path, inventory: Inventory, plan: Plan) -> Capacity:
    """Return the room on the disk, and how one real training step on these cases goes."""
    free = shutil.disk_usage(_nearest(home.folder)).free
    problems = problems_of(plan)
    if problems:
        return Capacity(free_bytes=free, not_tried=problems[0])
    images, given = sample_cases(path, inventory, plan=plan)
    if len(images) == 0:
        return Capacity(free_bytes=free, not_tried="there is no training case with a label")
    rows = np.arange(max(len(images), plan.training.batch_size), dtype=np.int64) % len(images)
    mean, sd = float(images.mean()), max(1e-6, float(images.std()))
    cases = TrainingCases(images=images, rows=rows, labels=given[rows], mean=mean, sd=sd)
    trial = try_step(plan, cases)
    return Capacity(
        free_bytes=free,
        device=trial.device,
        step_s=trial.step_s,
        problem=trial.problem,
        peak_bytes=trial.peak_bytes,
    )


def _nearest(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that there is."""
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())


def _num_workers(workers: int | None) -> int:
    return (os.cpu_count() or 1) if workers is None else workers


def _listing(path: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of change of every file, to see whether any changes meanwhile."""
    found: dict[str, tuple[int, int]] = {}
    places = [path] if path.is_file() else [
        Path(parent, name) for parent, _, names in os.walk(path) for name in names
    ]  # fmt: skip
    for place in places:
        try:
            status = place.stat()
        except OSError:
            continue
        found[str(place)] = status.st_size, status.st_mtime_ns
    return found


# --- what is remembered until the next check -----------------------------------------------------


def _earlier(record: Path) -> Earlier | None:
    """Return what the last check saw; None where there was none, or nothing can be read of it."""
    try:
        values = json.loads(record.read_bytes())
        if values["version"] != _VERSION:
            return None
        return Earlier(
            plan_digest=str(values["plan_digest"]),
            digest=str(values["digest"]),
            contents=[str(content) for content in values["contents"]],
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _remember(record: Path, report: Report) -> None:
    values = {
        "version": _VERSION,
        "plan_digest": report.plan_digest,
        "digest": report.inventory.digest,
        "contents": sorted(content_digest(case) for case in report.inventory.cases),
    }
    _write(record, json.dumps(values))


def _written(report: Report, folder: Path, suppression: Suppression) -> dict[str, Any]:
    """Write the page and the JSON, and return the latter with where they are."""
    values = report.as_json(suppression)
    page = render_page(report, suppression=suppression, version=__version__)
    _write(folder / "conformance.html", page)
    _write(folder / "conformance.json", json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    return {
        **values,
        "page": str(folder / "conformance.html"),
        "json": str(folder / "conformance.json"),
    }


def _write(path: Path, text: str) -> None:
    durable.make_folder(path.parent)
    content = text.encode("utf-8", "replace")
    durable.write_atomically(path, lambda file: str(file.write(content)))

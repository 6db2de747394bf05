"""How results, errors and progress reach a person, a script, or a log."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from hospitium.operations.progress import Event, Say
    from hospitium.state.home import Home


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the options before the noun said."""

    home_folder: Path | None = None
    debug: bool = False

    @property
    def home(self) -> Home:
        """The home folder to work in."""
        from hospitium.state.home import Home

        return Home(self.home_folder) if self.home_folder else Home.default()


def command_line(words: Sequence[str]) -> str:
    """Return the command for the report, in which a path is only its last part.

    A report is mailed around; where a hospital keeps its data is nobody's business.
    """
    return shlex.join(["hospitium", *(Path(word).name if "/" in word or "\\" in word else word
                                      for word in words)])  # fmt: skip


def print_json(value: Any) -> None:
    """Print a bare object on one line of stdout."""
    sys.stdout.write(json.dumps(value, allow_nan=False, default=str) + "\n")
    sys.stdout.flush()


def print_error(code: str, text: str, *, as_json: bool) -> None:
    """Print an error: as an object on stdout where JSON was asked for, else as words on stderr."""
    if as_json:
        print_json({"ok": False, "code": code, "error": text})
    else:
        sys.stderr.write(f"Error {code}: {text}\n")


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Say]:
    """Show events on stderr: bars with counts on a terminal, plain lines elsewhere."""
    if quiet:
        yield lambda event: None
    elif sys.stderr.isatty():
        with _bars() as bars:
            yield _Bars(bars)
    else:
        yield _Lines()


def _bars() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
    )


class _Bars:
    """Events as bars, one for each run."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        if event["kind"] in ("stage", "news", "left_out", "partition", "serving"):
            for line in words_of(event):
                self._bars.console.print(line, highlight=False, markup=False)
            return
        name = str(event.get("run") or event["text"])
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=event["of"], note="")
        done = event["round"] if event["kind"] == "round" else event["done"]
        self._bars.update(self._tasks[name], completed=done, note=_note(event))


class _Lines:
    """Events as plain lines, for a log."""

    def __init__(self) -> None:
        self._started: dict[str, tuple[float, int]] = {}
        self._told: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        if event["kind"] == "round":
            self._round(event)
        elif event["kind"] == "count":
            if event["done"] == event["of"]:
                self._print(f"{event['of']} {event['text']}")
        else:
            for line in words_of(event):
                self._print(line)

    def _round(self, event: Event) -> None:
        """Print a round at most every two seconds for each run, and the last one always."""
        now, name = time.monotonic(), str(event["run"])
        first, begun_at = self._started.setdefault(name, (now, int(event["round"])))
        is_last = event["round"] == event["of"]
        if not is_last and now - self._told.get(name, 0.0) < 2.0:
            return
        self._told[name] = now
        done = event["round"] - begun_at
        left = (now - first) / done * (event["of"] - event["round"]) if done else None
        eta = "" if left is None or is_last else f", about {left:.0f} s left"
        self._print(f"{name}: round {event['round']} of {event['of']}{_note(event)}{eta}")

    def _print(self, text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def _note(event: Event) -> str:
    """Return how many sites answered and how good the incoming params were."""
    if event["kind"] != "round":
        return ""
    sites = "1 site" if event["num_sites"] == 1 else f"{event['num_sites']} sites"
    auroc = "" if event["auroc"] is None else f", validation AUROC before it {event['auroc']:.3f}"
    return f", {sites}{auroc}"


def words_of(event: Event) -> list[str]:
    """Return the lines that say an event."""
    if event["kind"] == "serving":
        return [f"{event['text']}. Stop with Ctrl-C; everything can be resumed."]
    if event["kind"] == "news":
        return [str(event["text"])]
    if event["kind"] == "stage":
        return [f"{event['text']} ..."]
    if event["kind"] == "left_out":
        what = "is held for a person" if event["reason"] == "held" else "is left out"
        why = "" if event["reason"] == "held" else f" ({event['reason']})"
        return [f"{event['run']}: round {event['round']}: {event['site_id']} {what}{why}"]
    return [str(event["text"]), *(_site_line(row) for row in event["sites"])]


def _site_line(row: Mapping[str, Any]) -> str:
    """Return the cases and classes of one site, and its scanner."""
    parts = [
        f"{split} " + "/".join(str(count) for count in row[split].values())
        for split in ("train", "val", "test")
    ]
    shift = row.get("shift")
    scanner = "" if not shift else "; scanner " + ", ".join(
        f"{name} {value:.2f}" for name, value in shift.items()
    )  # fmt: skip
    classes = " / ".join(row["train"])
    return f"  {row['site_id']}: {', '.join(parts)} ({classes}){scanner}"

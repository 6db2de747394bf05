"""The files below a folder, sorted by path, with their sizes; no link leads out of the folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_DOCUMENTS = frozenset(
    [".csv", ".tsv", ".txt", ".md", ".json", ".toml", ".xml", ".html", ".pdf", ".xlsx", ".docx"]
)
_MAGIC_AT, _MAGIC = 128, b"DICM"


@dataclass(frozen=True, kw_only=True)
class FoundFile:
    """One file of a folder.

    Attributes:
        file: Path below the folder, with ``/``; a folder that cannot be listed ends in ``/``.
        path: Where it is.
        size: Bytes; 0 where it cannot be told.
        mtime_ns: When it was last changed.
        reason: Why it is not opened, one of ``SKIP_REASONS``; else empty.
    """

    file: str
    path: Path
    size: int = 0
    mtime_ns: int = 0
    reason: str = ""


def walk(root: Path, *, without: Path | None = None) -> Iterator[FoundFile]:
    """Yield every file below a folder, or the one file that ``root`` is, sorted by ``file``.

    Left out without a word are ``DICOMDIR``, names that begin with a dot, and documents (tables,
    text, PDF) that are not DICOM inside. A link to a folder is not followed: inside the root its
    files are found at their own place, outside it is refused, as a link to a file outside is.

    Args:
        root: A folder, or one file.
        without: A folder below it that is not entered.
    """
    if not root.is_dir():
        yield _stated(root, file=root.name)
        return
    real_root = root.resolve()
    stack = [_entries(root, "")]
    while stack:
        item = next(stack[-1], None)
        if item is None:
            stack.pop()
        elif isinstance(item, FoundFile):
            yield item
        elif item.is_symlink():
            if (link := _link(item, _name(item, root), real_root)) is not None:
                yield link
        elif item.is_dir(follow_symlinks=False):
            if without is not None and Path(item.path).resolve() == without:
                continue
            stack.append(_entries(Path(item.path), _name(item, root)))
        elif not _is_ignored(Path(item.path)):
            yield _stated(Path(item.path), file=_name(item, root))


def _name(entry: os.DirEntry[str], root: Path) -> str:
    return Path(entry.path).relative_to(root).as_posix()


def _entries(folder: Path, name: str) -> Iterator[os.DirEntry[str] | FoundFile]:
    """Yield what is in a folder, in the order that sorting all paths below the root would give."""
    try:
        with os.scandir(folder) as found:
            entries = [entry for entry in found if not entry.name.startswith(".")]
    except OSError:
        yield FoundFile(file=f"{name}/", path=folder, reason="unreadable_file")
        return
    yield from sorted(entries, key=_sort_key)


def _sort_key(entry: os.DirEntry[str]) -> str:
    return f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name


def _link(entry: os.DirEntry[str], name: str, real_root: Path) -> FoundFile | None:
    """Return the file that a link inside the root stands for, or why it is refused."""
    path = Path(entry.path)
    try:
        real = path.resolve()
        is_folder = real.is_dir()
    except (OSError, RuntimeError):
        return FoundFile(file=name, path=path, reason="unreadable_file")
    if not real.is_relative_to(real_root):
        return FoundFile(file=name, path=path, reason="outside_folder")
    return None if is_folder or _is_ignored(path) else _stated(path, file=name)


def _stated(path: Path, *, file: str) -> FoundFile:
    try:
        found = path.stat()
    except OSError:
        return FoundFile(file=file, path=path, reason="unreadable_file")
    reason = "" if stat.S_ISREG(found.st_mode) else "not_an_image"  # a pipe would wait for ever
    return FoundFile(
        file=file, path=path, size=found.st_size, mtime_ns=found.st_mtime_ns, reason=reason
    )


def _is_ignored(path: Path) -> bool:
    """Return whether a file is an index of others, or a document by name and content."""
    if path.name.upper() == "DICOMDIR":
        return True
    if path.suffix.lower() not in _DOCUMENTS:
        return False
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return stream.read(_MAGIC_AT + len(_MAGIC))[_MAGIC_AT:] != _MAGIC
    except OSError:
        return False

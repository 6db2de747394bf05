"""The names that a table gives -> files inside its folder; never a file outside."""

from __future__ import annotations

import os
from collections import defaultdict
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

from hospitium.imaging.instance import SkipError

_IGNORED = frozenset({"DICOMDIR"})


class ImageFolder:
    """Finds images by the names that a table gives.

    A name is a path below the folder, with ``/`` or ``\\``; a folder stands for all files below
    it. A bare name that is not there may also be found further below, with or without its
    extension, if only one file has it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._real_root = root.resolve()

    def find(self, name: str) -> tuple[tuple[Path, ...], tuple[str, ...]]:
        """Return the files that a name stands for, sorted, and notes.

        Raises:
            SkipError: ``outside_folder``, ``missing_file``, ``ambiguous_name``,
                ``unreadable_file``.
        """
        relative = self._relative(name)
        try:
            is_folder, exists = self._kind(self._root / relative)
        except (OSError, ValueError, RuntimeError) as error:
            raise SkipError("unreadable_file", f"{name}: {error}") from error
        if is_folder:
            return self._below(self._root / relative), ()
        if exists:
            return (self._inside(self._root / relative),), ()
        if len(relative.parts) != 1:
            raise SkipError("missing_file", name)
        return (self._by_name(relative.name),), ("found_by_name",)

    def _relative(self, name: str) -> PurePosixPath:
        """Return a name as a path that does not leave the folder by itself."""
        relative = PurePosixPath(name.strip().replace("\\", "/"))
        if not relative.parts or "\0" in name:
            raise SkipError("missing_file", f"no usable name: {name!r}")
        if relative.is_absolute() or ".." in relative.parts or PureWindowsPath(name).drive:
            raise SkipError("outside_folder", name)
        return relative

    def _kind(self, path: Path) -> tuple[bool, bool]:
        if not path.is_symlink() and not path.exists():
            return False, False
        self._inside(path)
        return path.is_dir(), path.exists()

    def _inside(self, path: Path) -> Path:
        """Return the path if it lies in the folder, links followed."""
        real = path.resolve()
        if not real.is_relative_to(self._real_root):
            raise SkipError("outside_folder", f"{path} -> {real}")
        return real

    def _below(self, folder: Path) -> tuple[Path, ...]:
        found = tuple(self._inside(path) for path in _walk(folder))
        if not found:
            raise SkipError("missing_file", f"{folder}: an empty folder")
        return found

    def _by_name(self, name: str) -> Path:
        matches = self._index.get(name, [])
        if not matches:
            raise SkipError("missing_file", name)
        if len(matches) > 1:
            raise SkipError("ambiguous_name", f"{name}: {len(matches)} files")
        return self._inside(matches[0])

    @cached_property
    def _index(self) -> dict[str, list[Path]]:
        """All files below the folder by name, and by name without extension."""
        index: defaultdict[str, list[Path]] = defaultdict(list)
        for path in _walk(self._root):
            for key in {path.name, path.stem}:
                index[key].append(path)
        return dict(index)


def _walk(folder: Path) -> list[Path]:
    """Return all files below a folder, sorted; links to folders are not followed."""
    return sorted(
        Path(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if name not in _IGNORED and not name.startswith(".")
    )

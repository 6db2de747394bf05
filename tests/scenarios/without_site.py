"""Runs the command as an installation for coordinators alone has it: nothing of a site is found."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from typing import Any

ABSENT = frozenset(
    [
        *("PIL", "SimpleITK", "dicomweb_client", "gdcm", "highdicom", "jpeg_ls", "libjpeg"),
        *("monai", "nibabel", "openjpeg", "pydicom", "pylibjpeg", "pynetdicom", "requests"),
        *("rle", "scipy", "sklearn", "torch", "torchvision", "urllib3"),
    ]
)


class Without:
    """A finder of modules that does not find these."""

    def __init__(self, finder: Any) -> None:
        self._finder = finder

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.partition(".")[0] in ABSENT:
            return None
        found: ModuleSpec | None = self._finder.find_spec(name, path, target)
        return found


if __name__ == "__main__":
    sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
    from hospitium.cli.main import main

    main()

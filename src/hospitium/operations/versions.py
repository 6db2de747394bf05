"""Which versions a result depends on."""

from __future__ import annotations

import platform
from importlib import metadata


def versions() -> dict[str, str]:
    """Return the versions of Python, the platform, and the packages that numbers come from."""
    found = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    for name in ("hospitium", "numpy", "torch", "monai", "pydicom"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found

"""Where an installation keeps harmonised images, so that the next run decodes nothing twice."""

from __future__ import annotations

from typing import Final

from hospitium.imaging.case_store import CaseStore
from hospitium.imaging.image_store import open_store
from hospitium.state.home import Home

DEFAULT_QUOTA_GIB: Final = 50.0
"""Above this the images that were read least recently are removed; they are made again."""


def site_cache(home: Home, *, quota_gib: float = DEFAULT_QUOTA_GIB) -> CaseStore:
    """Return the store of harmonised images in ``<home>/site/cache``, made if need be.

    Deleting the folder costs nothing but the time to decode again.

    Raises:
        StorageError: The folder cannot be written.
    """
    return open_store(home.folder / "site" / "cache", quota_bytes=int(quota_gib * 2**30))

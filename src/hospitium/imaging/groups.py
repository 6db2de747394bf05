"""Functional groups of multi-frame objects: what is shared, and what each frame has of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hospitium.imaging.elements import Elements


@dataclass(frozen=True, kw_only=True, eq=False)
class Groups:
    """The functional groups of an object (PS3.3 C.7.6.16), empty where it has none.

    Attributes:
        shared: Of all frames.
        frames: Of each frame; empty, or as many as the object has frames.
    """

    shared: Elements | None = None
    frames: Sequence[Elements] = ()

    def macro(self, keyword: str, frame: int) -> Elements | None:
        """Return the item of a functional group for a frame (from 0), shared groups first."""
        found = None if self.shared is None else self.shared.item(keyword)
        if found is None and self.frames:
            found = self.frames[frame].item(keyword)
        return found

    def is_shared(self, keyword: str) -> bool:
        """Return whether a functional group is the same for all frames, or absent for all."""
        if self.shared is not None and keyword in self.shared:
            return True
        return not any(keyword in frame for frame in self.frames)


def read_groups(elements: Elements, *, num_frames: int) -> Groups:
    """Read the functional groups; those of frames count only if there is one for each.

    Raises:
        SkipError: ``truncated``, ``too_large``.
    """
    if (
        "SharedFunctionalGroupsSequence" not in elements
        and "PerFrameFunctionalGroupsSequence" not in elements
    ):
        return Groups()
    frames = elements.items("PerFrameFunctionalGroupsSequence")
    return Groups(
        shared=elements.item("SharedFunctionalGroupsSequence"),
        frames=frames if len(frames) == num_frames else (),
    )

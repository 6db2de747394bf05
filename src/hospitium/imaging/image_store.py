"""Images of a folder as cases, decoded once: what was harmonised before is found again on disk.

What is kept of an image is the case and what was seen of it, by the allow-list of
`hospitium.imaging.minimise`; never an identifier. Whose image it is, is read from the file again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hospitium.errors import StorageError
from hospitium.imaging.array_files import write_atomically
from hospitium.imaging.case_store import CaseStore, case_key
from hospitium.imaging.files import is_picture_file, parse_file
from hospitium.imaging.instance import (
    Facts,
    FloatArray,
    Instance,
    Skip,
    Uids,
    is_constant,
    unusable,
)
from hospitium.imaging.minimise import ACTIONS
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.reading import read_bytes, read_header
from hospitium.imaging.selection import is_picture, read_options, select
from hospitium.plan.schema import ImagingSection

ACTIONS_FILE = "actions.json"
_IMAGE, _SEEN = "image", "seen"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is known of an image that was decoded: enough to select it, join copies and count.

    Attributes:
        facts: Of the image; a picture whose three channels are equal counts as grey.
        cautions: See `Instance`.
        notes: See `Instance`.
        has_geometry: Whether every frame has a placement.
        is_constant: See `instance.is_constant`.
        is_colour: Whether it has three channels.
        num_frames: How many frames it has.
        pixels: Equal for exactly equal pixels of the first frame, whatever file they came in.
        uids: See `Uids`. They are not kept.
    """

    facts: Facts
    cautions: tuple[str, ...]
    notes: tuple[str, ...]
    has_geometry: bool
    is_constant: bool
    is_colour: bool
    num_frames: int
    pixels: str
    uids: Uids = field(default_factory=Uids)

    @classmethod
    def of(cls, instance: Instance) -> Seen:
        """Return what is known of an image."""
        return cls(
            facts=_facts(instance),
            cautions=instance.cautions,
            notes=instance.notes,
            has_geometry=instance.placements is not None,
            is_constant=is_constant(instance),
            is_colour=instance.is_colour,
            num_frames=instance.num_frames,
            pixels=_pixels(instance),
            uids=instance.uids,
        )

    def refusal(self, imaging: ImagingSection | None) -> Skip | None:
        """Return why this is no case of one image, or None; ``imaging`` as for `ImageReader`."""
        if imaging is not None:
            return select(
                self.facts,
                self.cautions,
                imaging=imaging,
                has_geometry=self.has_geometry,
                is_constant=self.is_constant,
            )
        if self.num_frames > 1:
            return Skip(reason="not_selected", detail=f"{self.num_frames} frames")
        return unusable(self.cautions, is_constant=self.is_constant)


class ImageReader:
    """Reads image files as cases of one pipeline, out of a store where they are in it.

    Args:
        harmonise: The plan's steps.
        imaging: The plan's data contract; None takes all of one frame that can be trained on.
        store: Where cases are kept; None: nowhere.
    """

    def __init__(
        self,
        harmonise: Harmonise,
        *,
        imaging: ImagingSection | None = None,
        store: CaseStore | None = None,
    ) -> None:
        self._harmonise = harmonise
        self._imaging = imaging
        self._options = read_options(imaging) if imaging else None
        self._store = store

    def read(self, path: Path) -> tuple[Seen, FloatArray] | Skip:
        """Return what is known of a DICOM, PNG, JPEG or TIFF image and its case, or why it is none.

        The plan is asked alike about what was kept. What it refuses is neither harmonised nor
        kept.

        Raises:
            StorageError: The store cannot be written.
        """
        raw = read_bytes(path)
        if isinstance(raw, Skip):
            return raw
        if self._store is None:
            return self._made(raw, path)
        digest = hashlib.sha256(raw).hexdigest()
        key = case_key([digest], self._harmonise, options=self._options)
        kept = self._kept(self._store, key, raw)
        if kept is not None:
            return kept[0].refusal(self._imaging) or kept
        made = self._made(raw, path)
        if not isinstance(made, Skip):
            self._store.write_arrays(key, _arrays(*made))
        return made

    def _made(self, raw: bytes, path: Path) -> tuple[Seen, FloatArray] | Skip:
        instance = parse_file(raw, where=str(path), options=self._options)
        if isinstance(instance, Skip):
            return instance
        seen = Seen.of(instance)
        return seen.refusal(self._imaging) or (seen, self._harmonise.apply(instance))

    def _kept(self, store: CaseStore, key: str, raw: bytes) -> tuple[Seen, FloatArray] | None:
        """Return what the store holds, with the names that the file gives; else None."""
        arrays = store.read_arrays(key)
        if arrays is None:
            return None
        try:
            found, image = _seen(arrays), arrays[_IMAGE]
        except (KeyError, TypeError, ValueError):
            return None
        if is_picture_file(raw):
            return found, image
        header = read_header(raw, options=self._options)
        return None if isinstance(header, Skip) else (replace(found, uids=header.uids), image)


def open_store(folder: Path, *, quota_bytes: int) -> CaseStore:
    """Return the store in a folder; the PS3.15 action code of each attribute lies beside it.

    Raises:
        StorageError: The folder cannot be written.
    """
    store = CaseStore(folder, quota_bytes=quota_bytes)
    content = {"version": metadata.version("hospitium"), "actions": dict(ACTIONS)}
    text = json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"
    path = folder / ACTIONS_FILE
    try:
        if not path.is_file() or path.read_bytes() != text:
            write_atomically(path, [text])
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be written ({error.strerror}). What was there is intact. Free space "
            "or mend the access rights, then try again."
        ) from error
    return store


def _facts(instance: Instance) -> Facts:
    facts, values = instance.facts, instance.values
    if is_picture(facts) and instance.is_colour and (values == values[..., :1]).all():
        return replace(facts, photometric="L")
    return facts


def _pixels(instance: Instance) -> str:
    pixels = np.ascontiguousarray(instance.values[0])
    shape = str(pixels.shape).encode()
    return hashlib.blake2b(pixels.data, digest_size=16, salt=shape[:16]).hexdigest()


def _arrays(seen: Seen, image: FloatArray) -> dict[str, npt.NDArray[Any]]:
    """Return a case as the arrays of its file, without the names of the file."""
    values = {name: value for name, value in asdict(seen).items() if name != "uids"}
    text = json.dumps(values, sort_keys=True).encode()
    return {_IMAGE: image, _SEEN: np.frombuffer(text, np.uint8)}


def _seen(arrays: dict[str, npt.NDArray[Any]]) -> Seen:
    """Return what `_arrays` wrote."""
    values = _tuples(json.loads(arrays[_SEEN].tobytes()))
    return Seen(**{**values, "facts": Facts(**_tuples(values["facts"]))})


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}

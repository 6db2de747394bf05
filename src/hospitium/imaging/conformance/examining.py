"""Examines one file or series in a worker process: a request in, the facts of a case out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hospitium.imaging.conformance.case_facts import CaseFacts, Levels, MaskFacts
from hospitium.imaging.conformance.checks_labels import is_segmentation, mask_values
from hospitium.imaging.conformance.measuring import measure_image, measure_volume, pixel_digest
from hospitium.imaging.files import read_file
from hospitium.imaging.geometry import Volume, assemble_series
from hospitium.imaging.image_store import Seen
from hospitium.imaging.instance import Facts, Skip, Uids
from hospitium.imaging.labels import LabelMap
from hospitium.imaging.masks import read_mask
from hospitium.imaging.nifti import read_nifti, read_nifti_labels
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.reading import read_bytes, read_dicom, read_header
from hospitium.imaging.selection import read_options, select
from hospitium.plan import Plan
from hospitium.plan.reading import plan_from_dict

Kind = Literal["image", "nifti", "series"]
NIFTI = (".nii", ".nii.gz")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be examined.

    Attributes:
        name: What the site's staff call it: a path below the folder.
        kind: One image file, one NIfTI file, or the DICOM files of one series.
        paths: The files.
        masks: Files that may hold its mask: one NIfTI file, or the label objects of its study.
    """

    name: str
    kind: Kind
    paths: tuple[str, ...]
    masks: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """Return it as it travels to a worker."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, raw: bytes) -> Request:
        """Return what `to_bytes` wrote."""
        values = json.loads(raw)
        return cls(**_tuples(values))


def prepare(settings: bytes) -> Callable[[bytes], bytes]:
    """Return what a worker does with a request; the settings are a plan's canonical bytes."""
    plan = plan_from_dict(json.loads(settings))
    return lambda request: to_bytes(examine(Request.from_bytes(request), plan=plan))


def examine(request: Request, *, plan: Plan) -> CaseFacts | Skip:
    """Read one case and measure it; whatever is wrong with its files, the answer is a `Skip`."""
    if request.kind == "image":
        return _image(request, plan)
    found: Volume | Skip
    if request.kind == "nifti":
        found = read_nifti(Path(request.paths[0]))
    else:
        found = _series(request, plan)
    if isinstance(found, Skip):
        return found
    return _refused_volume(found, plan) or measure_volume(
        found, name=request.name, plan=plan, mask=_mask(request, found, plan)
    )


def _image(request: Request, plan: Plan) -> CaseFacts | Skip:
    instance = read_file(Path(request.paths[0]), options=read_options(plan.imaging))
    if isinstance(instance, Skip):
        return instance
    refused = Seen.of(instance).refusal(plan.imaging)  # as training does
    return refused or measure_image(instance, name=request.name, plan=plan)


def _refused_volume(volume: Volume, plan: Plan) -> Skip | None:
    """Return why the plan does not take a volume, or None if it does."""
    voxels = volume.values[0] if volume.is_valid is None else volume.values[0][volume.is_valid]
    return select(
        volume.facts,
        volume.cautions,
        imaging=plan.imaging,
        is_constant=voxels.size == 0 or bool(voxels.min() == voxels.max()),
        num_slices=volume.facts.frames,
    )


def _series(request: Request, plan: Plan) -> Volume | Skip:
    """Return the volume of a series; the files that are no images of it are left out."""
    paths = [Path(path) for path in request.paths]
    headers = [(path, read_header(path)) for path in paths]
    usable = [(path, header) for path, header in headers if not isinstance(header, Skip)]
    if not usable:
        return next(header for _, header in headers if isinstance(header, Skip))
    options = read_options(plan.imaging)
    return assemble_series(
        [header for _, header in usable],
        lambda number: read_dicom(usable[number][0], options=options),
    )


def _mask(request: Request, volume: Volume, plan: Plan) -> MaskFacts | None:
    """Return what is known about a volume's mask, where the plan needs one."""
    if not is_segmentation(plan):
        return None
    reason = "mask_missing"
    for path in request.masks:
        found = _labels(Path(path), volume, plan)
        if isinstance(found, LabelMap):
            present = [
                value for value in mask_values(plan) if value and (found.labels == value).any()
            ]
            on_grid = replace(Harmonise.of(plan), n4=False).apply_volume(volume, found)
            return MaskFacts(
                values=tuple(present),
                notes=tuple(dict.fromkeys((*found.notes, *on_grid.notes))),
                digest=pixel_digest(found.labels),
            )
        reason = found.reason
    return MaskFacts(reason=reason)


def _labels(path: Path, volume: Volume, plan: Plan) -> LabelMap | Skip:
    """Read one file as labels on a volume's grid: NIfTI, SEG or RTSTRUCT."""
    if path.name.lower().endswith(NIFTI):
        return read_nifti_labels(path, like=volume, values=list(mask_values(plan)))
    raw = read_bytes(path)
    if isinstance(raw, Skip):
        return raw
    names = [plan.task.classes[index] for value, index in mask_values(plan).items() if value]
    return read_mask(raw, volume=volume, structures=names)


# --- how an answer travels -----------------------------------------------------------------------


def to_bytes(found: CaseFacts | Skip) -> bytes:
    """Return an answer as it travels back from a worker."""
    if isinstance(found, Skip):
        return json.dumps({"skip": asdict(found)}).encode()
    return json.dumps({"case": {**asdict(found), "thumbnail": found.thumbnail.hex()}}).encode()


def from_bytes(raw: bytes) -> CaseFacts | Skip:
    """Return what `to_bytes` wrote."""
    answer = json.loads(raw)
    if "skip" in answer:
        return Skip(**answer["skip"])
    values = _tuples(answer["case"])
    mask = values["mask"]
    return CaseFacts(
        **{
            **values,
            "facts": Facts(**_tuples(values["facts"])),
            "levels": Levels(**values["levels"]),
            "harmonised": Levels(**values["harmonised"]),
            "mask": None if mask is None else MaskFacts(**_tuples(mask)),
            "uids": Uids(**values["uids"]),
            "thumbnail": bytes.fromhex(values["thumbnail"]),
        }
    )


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}

"""What to do about each reason for which a file gives no image, and who can do it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

ENGINEER: Final = "engineer"
STEWARD: Final = "steward"
PACS: Final = "PACS administrator"
NOBODY: Final = "nobody"


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """What helps, and who acts: the site's engineer, its data steward, the PACS's administrator."""

    text: str
    who: str


def _all(who: str, texts: Mapping[str, str]) -> dict[str, Remedy]:
    return {reason: Remedy(text=text, who=who) for reason, text in texts.items()}


_EXPORT_AGAIN = "export these studies again, as stored, without transcoding"

REMEDIES: Final[Mapping[str, Remedy]] = MappingProxyType(
    {
        **_all(
            NOBODY,
            {
                "label_object": "nothing: masks are read together with the images they belong to",
                "no_pixels": "nothing: reports, plans and waveforms are no images",
                "not_an_image": "nothing, if these files are no images; else convert them",
                "secondary_capture": "nothing, or accept them: `secondary_capture` in the plan",
                "not_selected": "nothing, or widen the plan's selection",
            },
        ),
        **_all(
            ENGINEER,
            {
                "unreadable_file": "give this account the right to read; do not remove the files",
                "outside_folder": "put the files into the folder; links out of it are refused",
                "missing_file": "put the files where the table says, or mend the table",
                "ambiguous_name": "name the files with their folders",
                "not_dicom": "look whether these are images at all; if so, export them again",
                "too_large": "look at one of them: damage, or a size that no scanner makes",
                "transfer_syntax_unsupported": "ask the PACS for an encoding that is read here",
                "decode_failed": "look at one of them in a viewer; if it opens, report it to us",
                "uid_conflict": "find out which system gave two images one UID; remove the wrong",
            },
        ),
        **_all(
            PACS,
            {
                "no_transfer_syntax": _EXPORT_AGAIN,
                "truncated": _EXPORT_AGAIN,
                "missing_attribute": _EXPORT_AGAIN,
                "bad_attribute": _EXPORT_AGAIN,
                "codestream_mismatch": _EXPORT_AGAIN,
                "no_rescale": "export the CT with its rescale values",
                "raw_detector": "export the images FOR PRESENTATION",
                "mosaic": "convert the mosaic to single slices at the scanner",
                "uid_missing": "export with study and series UIDs, or add with --group-by folder",
                "empty_study": "import the study into the PACS again",
                "no_geometry": "export the images as the scanner made them, with positions",
                "missing_slice": "send the whole series again",
                "uneven_spacing": "send the whole series again; it may mix two",
            },
        ),
        **_all(
            STEWARD,
            {
                "burned_in": "look through them; text in the pixels may name a patient",
                "constant": "leave them out: every pixel has the same value",
                "ambiguous_stack": "say in the plan which of the stacks is meant",
                "too_few_slices": "leave them out, or lower `min_slices` in the plan",
                "no_patient": "leave them out, or have the PatientID mended in the PACS",
            },
        ),
    }
)
"""The remedy for each reason that a scan can give."""

DEFAULT: Final = Remedy(text="look at one of them", who=STEWARD)


def remedy(reason: str) -> Remedy:
    """Return what to do about a reason."""
    return REMEDIES.get(reason, DEFAULT)

"""Which attributes of a DICOM object exist for us, and what of them may be seen outside the site.

A new record is made from listed attributes: nothing is scrubbed, so nothing can be forgotten. Each
attribute has the action code of PS3.15 Table E.1-1 that says what becomes of it here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol, TypeAlias

from hospitium.imaging.identity import SiteKey
from hospitium.imaging.instance import Facts, Uids

Action: TypeAlias = Literal["K", "C", "U", "D", "X"]
"""Kept; cleaned; a keyed name for a UID; a keyed name for another identifier; removed."""

_KEPT = (
    # what it is
    *("SOPClassUID", "Modality", "ImageType", "PresentationIntentType", "TransferSyntaxUID"),
    # the pixels
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames"),
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept"),
    *("ModalityLUTSequence", "VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("PresentationLUTShape", "PixelIntensityRelationship", "PixelIntensityRelationshipSign"),
    *("LossyImageCompression", "RedPaletteColorLookupTableData", "BluePaletteColorLookupTableData"),
    *("GreenPaletteColorLookupTableData", "BurnedInAnnotation", "PixelData", "FloatPixelData"),
    *("DoubleFloatPixelData",),
    # where they are
    *("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"),
    *("PixelSpacingCalibrationType", "EstimatedRadiographicMagnificationFactor"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PatientPosition", "PatientOrientation"),
    *("ViewPosition", "Laterality", "ImageLaterality", "BodyPartExamined"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("TemporalPositionIdentifier", "AcquisitionNumber"),
    # the scanner
    *("Manufacturer", "ManufacturerModelName", "ConvolutionKernel", "KVP"),
    *("MagneticFieldStrength", "EchoTime", "RepetitionTime", "ScanningSequence"),
    *("DiffusionBValue",),
)
_CLEANED = ("ContrastBolusAgent", "PatientSex", "PatientAge")
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
_NAMED = ("PatientID", "IssuerOfPatientID", "AccessionNumber")

ACTIONS: Final[Mapping[str, Action]] = MappingProxyType(
    {
        **dict.fromkeys(_KEPT, "K"),
        **dict.fromkeys(_CLEANED, "C"),
        **dict.fromkeys(_UIDS, "U"),
        **dict.fromkeys(_NAMED, "D"),
    }
)
"""What becomes of each attribute that the reader looks at; see `action`."""


def action(keyword: str) -> Action:
    """Return what becomes of an attribute: ``X`` for every one that is not listed."""
    return ACTIONS.get(keyword, "X")


class Described(Protocol):
    """Anything that knows what an object is and what the hospital calls it."""

    @property
    def facts(self) -> Facts:
        """What it is."""

    @property
    def uids(self) -> Uids:
        """What it is called: as in the file, not pseudonyms."""


# --- the words that may be seen outside ----------------------------------------------------------

OTHER = "other"
"""Stands for a word that is not one of the known ones, whatever it was."""


def _terms(words: str) -> frozenset[str]:
    """Return the words of a line, and the empty one."""
    return frozenset(words.split()) | {""}


MODALITIES: Final = _terms(
    "CR CT DX MG MR NM OT PT PX RF RG SC US XA XC ES GM HD IO OP OPT OCT SM TG BI DG"
)
BODY_PARTS: Final = _terms(
    "ABDOMEN ABDOMENPELVIS ANKLE AORTA ARM BLADDER BRAIN BREAST BRONCHUS CAROTID CHEST "
    "CHESTABDOMEN CHESTABDPELVIS CLAVICLE COCCYX COLON CSPINE CTSPINE EAR ELBOW EXTREMITY EYE "
    "FEMUR FINGER FOOT FOREARM GALLBLADDER HAND HEAD HEADNECK HEART HIP HUMERUS IAC JAW KIDNEY "
    "KNEE LEG LIVER LSPINE LSSPINE LUNG MANDIBLE MEDIASTINUM NECK NECKCHEST NECKCHESTABDOMEN "
    "NECKCHESTABDPELV ORBIT PANCREAS PATELLA PELVIS PROSTATE RIB SACRUM SCAPULA SELLA SHOULDER "
    "SINUS SKULL SPINE SPLEEN SSPINE STERNUM STOMACH TESTIS THIGH THORAX THUMB TIBIA TLSPINE "
    "TMJ TOE TSPINE UTERUS WHOLEBODY WRIST"
)
"""Of PS3.16 Annex L, Table L-1, and spellings that scanners use."""

_VENDORS = (
    *("Agfa", "Canon", "Carestream", "Elscint", "Fonar", "Fujifilm", "GE", "Hitachi", "Hologic"),
    *("Kodak", "Konica", "Lodox", "Marconi", "Mindray", "Neusoft", "Philips", "Picker", "Samsung"),
    *("Shimadzu", "Siemens", "Swissray", "Topcon", "Toshiba", "UIH", "Varian", "Ziehm", "Zeiss"),
    *("Alder", "Birch", "Cedar", "Dogwood"),  # the invented ones of our phantoms
)
_ALIASES = {
    "FUJI": "Fujifilm",
    "GENERAL ELECTRIC": "GE",
    "UNITED IMAGING": "UIH",
    "EASTMAN": "Kodak",
}
_IMAGE_TYPES = _terms(
    "ORIGINAL DERIVED PRIMARY SECONDARY AXIAL LOCALIZER MIP MPR MOSAIC PROJECTION VOLUME "
    "RESAMPLED REFORMATTED ADC DIFFUSION TRACEW FA M P R I NORM ND DIS2D DIS3D FFE SE IR GR "
    "HELIX SCOUT OTHER"
)
_WORDS: Mapping[str, frozenset[str]] = {
    "modality": MODALITIES,
    "body_part": BODY_PARTS,
    "view": _terms("AP PA LL RL LLD RLD LLO RLO LATERAL LAT CC ML MLO LM LMO XCCL XCCM AXIAL"),
    "laterality": frozenset({"", "L", "R", "U", "B"}),
    "intent": frozenset({"", "FOR PRESENTATION", "FOR PROCESSING"}),
    "photometric": _terms(
        "MONOCHROME1 MONOCHROME2 RGB YBR_FULL YBR_FULL_422 YBR_PARTIAL_422 "
        "YBR_PARTIAL_420 YBR_ICT YBR_RCT I L"
    )
    | {"PALETTE COLOR", "I;16"},
    "patient_position": _terms(
        "HFP HFS HFDR HFDL FFDR FFDL FFP FFS LFP LFS RFP RFS AFDR AFDL PFDR PFDL SITTING"
    ),
    "spacing_kind": frozenset({"", "calibrated", "detector", "scanned", "none"}),
    "burned_in": frozenset({"", "YES", "NO"}),
    "sex": frozenset({"", "M", "F", "O"}),
}
_PATTERNS: Mapping[str, re.Pattern[str]] = {
    "sop_class": re.compile(r"(1\.2\.840\.10008\.5\.1\.4[0-9.]{0,40})?"),
    "transfer_syntax": re.compile(r"(1\.2\.840\.10008\.1\.2[0-9.]{0,10})?"),
    "patient_orientation": re.compile(r"([ALRPHF]{1,3}\\[ALRPHF]{1,3})?"),
    "scanning_sequence": re.compile(r"((SE|IR|GR|EP|RM)(\\(SE|IR|GR|EP|RM))*)?"),
    "age_band": re.compile(r"([0-8]?0-[1-8]?9|90\+?|90 and over)?"),
}
_RANGES: Mapping[str, tuple[float, float]] = {
    "rows": (1, 65_535),
    "columns": (1, 65_535),
    "frames": (1, 65_535),
    "bits_stored": (1, 64),
    "kvp": (0, 500),
    "field_strength": (0, 20),
    "echo_time": (0, 2_000),
    "repetition_time": (0, 30_000),
    "b_value": (0, 20_000),
}
_FLAGS = ("is_lossy", "has_contrast")
_AT_HOME = ("manufacturer", "model", "image_type", "kernel", "spacing_mm", "temporal_position",
            "acquisition_number")  # fmt: skip
"""Facts that stay at the site, or that `minimised` puts in other words."""


def vendor(manufacturer: str) -> str:
    """Return the plain name of a manufacturer, ``other`` for one that is not known.

    Example:
        >>> vendor("SIEMENS Healthineers"), vendor("GE MEDICAL SYSTEMS"), vendor("Dr Miller")
        ('Siemens', 'GE', 'other')
    """
    upper = manufacturer.upper().strip()
    if not upper:
        return ""
    for known in _VENDORS:
        if re.search(rf"\b{known.upper()}", upper) and (known != "GE" or re.match(r"GE\b", upper)):
            return known
    return next((name for alias, name in _ALIASES.items() if alias in upper), OTHER)


def minimised(
    found: Described, *, key: SiteKey, federation: str, with_subgroups: bool = False
) -> dict[str, Any]:
    """Return all that may be known of an object outside the site: keyed names and known words.

    A word that is none of the defined terms becomes ``other`` and a number outside its usual range
    None, so that a name typed into ``Manufacturer`` or a date into ``EchoTime`` stays behind. Model
    and kernel are free text and stay behind too. This is one row: counts of rows are suppressed
    before they leave (`suppression`), rows never leave.

    Args:
        found: An instance, a header, or anything with the facts and UIDs of the file.
        key: The site's.
        federation: Its id.
        with_subgroups: The plan asks for sex and age band; else they are left out.
    """
    facts = found.facts
    words = {name: _word(getattr(facts, name), known) for name, known in _WORDS.items()}
    shapes = {name: _shaped(getattr(facts, name), form) for name, form in _PATTERNS.items()}
    if not with_subgroups:
        del words["sex"], shapes["age_band"]
    return {
        "case_id": key.case_id(found.uids, federation=federation),
        "subject_id": key.subject_id(found.uids, federation=federation),
        **words,
        **shapes,
        "vendor": vendor(facts.manufacturer),
        "image_type": [part for part in facts.image_type if part.upper() in _IMAGE_TYPES],
        "spacing_mm": _spacing(facts.spacing_mm),
        **{name: _number(getattr(facts, name), *ends) for name, ends in _RANGES.items()},
        **{name: getattr(facts, name) for name in _FLAGS},
    }


def _word(value: str, known: frozenset[str]) -> str:
    upper = value.strip()
    return upper if upper in known else upper.upper() if upper.upper() in known else OTHER


def _shaped(value: str, form: re.Pattern[str]) -> str:
    return value if form.fullmatch(value) else OTHER


def _number(value: float | None, low: float, high: float) -> float | None:
    """Return a number in its usual range with three digits, else None."""
    if value is None or not math.isfinite(value) or not low <= value <= high:
        return None
    return value if isinstance(value, int) else float(f"{value:.3g}")


def _spacing(spacing_mm: Sequence[float] | None) -> list[float | None] | None:
    return None if spacing_mm is None else [_number(side, 1e-4, 100) for side in spacing_mm]

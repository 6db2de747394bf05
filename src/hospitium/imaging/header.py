"""What a DICOM header says about an image: its allow-listed facts, identifiers and cautions."""

from __future__ import annotations

from hospitium.imaging.decoding import is_lossy
from hospitium.imaging.elements import Elements
from hospitium.imaging.groups import Groups
from hospitium.imaging.instance import Facts, ReadOptions, SkipError, Uids
from hospitium.imaging.pixels import PixelFormat
from hospitium.imaging.placement import spacing

_MAX_CODE, _MAX_NAME = 16, 64
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 1 / 52, "D": 1 / 365}
_OLDEST = 90
_AGE_DIGITS = 5  # the standard has three; days of a long life have five


def facts(elements: Elements, found: PixelFormat, groups: Groups) -> Facts:
    """Return the allow-listed facts; nothing else is copied from a header."""
    distance, kind = spacing(elements, groups)

    def code(keyword: str) -> str:
        return elements.text(keyword)[:_MAX_CODE]

    return Facts(
        modality=code("Modality"),
        manufacturer=elements.text("Manufacturer")[:_MAX_NAME],
        rows=found.rows,
        columns=found.columns,
        bits_stored=found.bits_stored,
        photometric=found.photometric,
        spacing_mm=distance,
        frames=found.frames,
        sop_class=elements.text("SOPClassUID")[:_MAX_NAME],
        transfer_syntax=found.transfer_syntax,
        model=elements.text("ManufacturerModelName")[:_MAX_NAME],
        image_type=_codes(elements, "ImageType"),
        intent=code("PresentationIntentType"),
        body_part=code("BodyPartExamined").upper(),
        view=code("ViewPosition").upper(),
        laterality=code("ImageLaterality") or code("Laterality"),
        patient_position=code("PatientPosition"),
        patient_orientation=code("PatientOrientation"),
        spacing_kind=kind,
        is_lossy=is_lossy(elements, transfer_syntax=found.transfer_syntax),
        burned_in=code("BurnedInAnnotation").upper(),
        kernel=elements.text("ConvolutionKernel")[:_MAX_NAME],
        kvp=_number(elements, "KVP"),
        field_strength=_number(elements, "MagneticFieldStrength"),
        echo_time=_number(elements, "EchoTime"),
        repetition_time=_number(elements, "RepetitionTime"),
        scanning_sequence=code("ScanningSequence"),
        b_value=_number(elements, "DiffusionBValue"),
        temporal_position=_whole(elements, "TemporalPositionIdentifier"),
        acquisition_number=_whole(elements, "AcquisitionNumber"),
        has_contrast=_has_contrast(elements),
        sex=code("PatientSex") if code("PatientSex") in ("F", "M", "O") else "",
        age_band=age_band(elements.text("PatientAge")),
    )


def uids(elements: Elements) -> Uids:
    """Return what the image is called in the hospital."""
    return Uids(
        study=elements.text("StudyInstanceUID"),
        series=elements.text("SeriesInstanceUID"),
        instance=elements.text("SOPInstanceUID"),
        frame_of_reference=elements.text("FrameOfReferenceUID"),
        patient=elements.name("PatientID"),
        issuer=elements.name("IssuerOfPatientID"),
        accession=elements.name("AccessionNumber"),
    )


def cautions(found: Facts, options: ReadOptions) -> tuple[str, ...]:
    """Return why this image is no training case, though it can be read; in the order of checks."""
    image_type = [part.upper() for part in found.image_type]
    checks = {
        "raw_detector": found.intent == "FOR PROCESSING" and not options.take_raw,
        "not_selected": "LOCALIZER" in image_type,
        "mosaic": "MOSAIC" in image_type,
        "burned_in": found.burned_in == "YES",
    }
    return tuple(code for code, applies in checks.items() if applies)


def header_notes(found: Facts) -> tuple[str, ...]:
    """Return the notes that need no pixels."""
    notes = {"lossy": found.is_lossy, "burned_in_unknown": found.burned_in not in ("YES", "NO")}
    return tuple(code for code, applies in notes.items() if applies)


def age_band(age: str) -> str:
    """Return the ten-year band of an age string, such as ``"60-69"`` or ``"90+"``.

    Empty where it is no age (PS3.5 6.2, AS).
    """
    digits, unit = age[:-1], age[-1:]
    if not digits.isdigit() or len(digits) > _AGE_DIGITS or unit not in _YEARS:
        return ""
    first = int(int(digits) * _YEARS[unit]) // 10 * 10
    return f"{_OLDEST}+" if first >= _OLDEST else f"{first}-{first + 9}"


def _codes(elements: Elements, keyword: str) -> tuple[str, ...]:
    """Return all values of an attribute, at most a handful."""
    value = elements.text(keyword)
    return tuple(part[:_MAX_CODE] for part in value.split("\\")[:_MAX_CODE]) if value else ()


def _number(elements: Elements, keyword: str) -> float | None:
    """Return a number that only describes, None where it is absent or illegible."""
    try:
        found = elements.numbers(keyword)
    except SkipError:
        return None
    return found[0] if found else None


def _whole(elements: Elements, keyword: str) -> int | None:
    found = _number(elements, keyword)
    return None if found is None else int(found)


def _has_contrast(elements: Elements) -> bool | None:
    """Return whether a contrast agent is named, None where its attribute is left empty."""
    if "ContrastBolusAgent" not in elements:
        return False
    return True if elements.value("ContrastBolusAgent") else None

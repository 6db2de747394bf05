"""Seeded studies with known findings, as DICOM or NIfTI files; nobody was ever in a scanner."""

from hospitium.testing.phantoms.anatomy import Anatomy, draw_anatomy
from hospitium.testing.phantoms.chest import Chest, Findings, draw_chest
from hospitium.testing.phantoms.knobs import Knobs, Site
from hospitium.testing.phantoms.studies import AWKWARD, CLASSES, write_chest, write_phantoms
from hospitium.testing.phantoms.vendors import VENDORS, StoredFacts, Vendor, apply_vendor
from hospitium.testing.phantoms.volumes import VOLUME_CLASSES, write_volumes

__all__ = [
    "AWKWARD",
    "CLASSES",
    "VENDORS",
    "VOLUME_CLASSES",
    "Anatomy",
    "Chest",
    "Findings",
    "Knobs",
    "Site",
    "StoredFacts",
    "Vendor",
    "apply_vendor",
    "draw_anatomy",
    "draw_chest",
    "write_chest",
    "write_phantoms",
    "write_volumes",
]

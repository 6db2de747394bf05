"""Seeded chest-X-ray-like DICOM studies with known findings; nobody was ever in front of a tube."""

from hospitium.testing.phantoms.anatomy import Anatomy, draw_anatomy
from hospitium.testing.phantoms.chest import draw_chest
from hospitium.testing.phantoms.studies import CLASSES, write_phantoms
from hospitium.testing.phantoms.vendors import VENDORS, StoredFacts, Vendor, apply_vendor

__all__ = [
    "CLASSES",
    "VENDORS",
    "Anatomy",
    "StoredFacts",
    "Vendor",
    "apply_vendor",
    "draw_anatomy",
    "draw_chest",
    "write_phantoms",
]

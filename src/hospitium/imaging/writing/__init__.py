"""Writes DICOM and NIfTI files, byte for byte the same for the same content.

For phantoms and tests: a site never writes images that it was given.
"""

from hospitium.imaging.writing.encoding import ENCODINGS, Encoding
from hospitium.imaging.writing.nifti import write_nifti
from hospitium.imaging.writing.objects import Study, derive_uid
from hospitium.imaging.writing.radiographs import Radiograph, write_radiograph
from hospitium.imaging.writing.segmentation import Segment, write_segmentation
from hospitium.imaging.writing.structures import trace, write_structures
from hospitium.imaging.writing.volumes import Grid, Tomogram, write_frames, write_slices

__all__ = [
    "ENCODINGS",
    "Encoding",
    "Grid",
    "Radiograph",
    "Segment",
    "Study",
    "Tomogram",
    "derive_uid",
    "trace",
    "write_frames",
    "write_nifti",
    "write_radiograph",
    "write_segmentation",
    "write_slices",
    "write_structures",
]

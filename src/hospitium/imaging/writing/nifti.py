"""Writes NIfTI files, compressed the same way each time."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

_MM = 2  # NIFTI_UNITS_MM
_SCANNER = 1  # NIFTI_XFORM_SCANNER_ANAT


def write_nifti(path: Path, values: npt.NDArray[Any], *, affine: npt.NDArray[np.float64]) -> None:
    """Write a volume as ``.nii`` or ``.nii.gz``, replacing a file of this name.

    Args:
        path: Its ending says whether it is compressed.
        values: ``(i, j, k)`` integers or float32.
        affine: ``(4, 4)`` to millimetres in RAS.

    Raises:
        OSError: The disk refused.
    """
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units(_MM)
    image.set_sform(affine, _SCANNER)
    image.set_qform(affine, _SCANNER, strip_shears=True)
    raw = image.to_bytes()
    path.write_bytes(gzip.compress(raw, 1, mtime=0) if path.suffix == ".gz" else raw)

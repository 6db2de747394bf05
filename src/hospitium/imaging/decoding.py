"""The pinned decoder of each DICOM transfer syntax, and the limits before any decoder runs.

Two decoders of one lossy file give different pixels. So each syntax has one decoder here, and no
caller chooses another. pylibjpeg-libjpeg (GPLv3) is never one of them, even where it is installed.
Where the one decoder is not installed the file is left out as ``transfer_syntax_unsupported``.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import apply_color_lut, get_decoder

from hospitium.imaging.attributes import attribute, integer, text
from hospitium.imaging.codestream import read_codestream
from hospitium.imaging.instance import Limits, SkipError

_NATIVE = frozenset(
    {
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.1",
        "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.2",
    }
)
_RLE = "1.2.840.10008.1.2.5"
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
_GDCM_12_BIT = "gdcm, 12 bits"  # our own call: see `_decode_12_bit`
_PLUGINS = {
    _RLE: "pylibjpeg",  # pylibjpeg-rle
    "1.2.840.10008.1.2.4.50": "gdcm",
    _JPEG_EXTENDED: "gdcm",  # 12 bits: see `_plugin`
    "1.2.840.10008.1.2.4.57": "gdcm",
    "1.2.840.10008.1.2.4.70": "gdcm",
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg",  # pylibjpeg-openjpeg, this and the rest
    "1.2.840.10008.1.2.4.91": "pylibjpeg",
    "1.2.840.10008.1.2.4.201": "pylibjpeg",
    "1.2.840.10008.1.2.4.202": "pylibjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg",
}
_LOSSY = frozenset({"1.2.840.10008.1.2.4.50", _JPEG_EXTENDED, "1.2.840.10008.1.2.4.81"})
_COLOUR_SAMPLES = {"MONOCHROME1": 1, "MONOCHROME2": 1, "PALETTE COLOR": 1}


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
    """The checked description of an object's pixels (PS3.3 C.7.6.3)."""

    transfer_syntax: str
    rows: int
    columns: int
    samples: int
    frames: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    photometric: str

    @property
    def is_native(self) -> bool:
        """Whether the pixels are not compressed."""
        return self.transfer_syntax in _NATIVE

    @property
    def frame_bytes(self) -> int:
        """Bytes of one uncompressed frame; YBR_FULL_422 has two samples for a pixel."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return self.rows * self.columns * samples * self.bits_allocated // 8


def inflated_is_small(deflated: bytes, *, max_bytes: int) -> bool:
    """Return whether a raw deflate stream gives at most so many bytes, without keeping them."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total, pending = 0, deflated
    while pending and not inflater.eof:
        total += len(inflater.decompress(pending, 1 << 20))
        if total > max_bytes:
            return False
        pending = inflater.unconsumed_tail
    return True


def pixel_format(dataset: Dataset, *, transfer_syntax: str) -> PixelFormat:
    """Return the checked description of the pixels.

    Raises:
        SkipError: ``missing_attribute``, ``bad_attribute`` or ``not_an_image``.
    """
    bits_allocated = integer(dataset, "BitsAllocated")
    frames = integer(dataset, "NumberOfFrames", default=1)
    bits_stored = integer(dataset, "BitsStored")
    found = PixelFormat(
        transfer_syntax=transfer_syntax,
        rows=integer(dataset, "Rows"),
        columns=integer(dataset, "Columns"),
        samples=integer(dataset, "SamplesPerPixel", default=1),
        frames=frames,
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        high_bit=integer(dataset, "HighBit", default=bits_stored - 1),
        is_signed=integer(dataset, "PixelRepresentation", default=0) == 1,
        photometric=text(dataset, "PhotometricInterpretation").upper(),
    )
    _check_format(found)
    return found


def _check_format(found: PixelFormat) -> None:
    if not found.photometric:
        raise SkipError("missing_attribute", "PhotometricInterpretation")
    if found.bits_allocated == 1:
        raise SkipError("not_an_image", "BitsAllocated = 1: a bit map")
    is_legal = (
        min(found.rows, found.columns, found.frames) >= 1
        and found.samples == _COLOUR_SAMPLES.get(found.photometric, 3)
        and found.bits_allocated in (8, 16, 32)
        and 1 <= found.bits_stored <= found.high_bit + 1 <= found.bits_allocated
        and not (found.samples == 3 and (found.is_signed or found.bits_allocated > 16))
    )
    if not is_legal:
        raise SkipError("bad_attribute", f"impossible pixels: {found}")


def check_size(found: PixelFormat, *, num_bytes: int, limits: Limits) -> tuple[str, ...]:
    """Refuse what is too short, too large, or not one image, before anything is decoded.

    Returns:
        Notes: ``trailing_bytes``.

    Raises:
        SkipError: ``truncated``, ``too_large``, ``not_selected``.
    """
    needed = found.frame_bytes * found.frames
    if found.is_native and num_bytes < needed:
        raise SkipError("truncated", f"{num_bytes} bytes of pixels of {needed}")
    if max(found.rows, found.columns) > limits.max_side:
        raise SkipError("too_large", f"{found.rows} x {found.columns}")
    if found.rows * found.columns > limits.max_pixels:
        raise SkipError("too_large", f"{found.rows} x {found.columns}")
    if found.frames > 1:
        raise SkipError("not_selected", f"{found.frames} frames")
    return ("trailing_bytes",) if found.is_native and num_bytes > needed + needed % 2 else ()


def decode(dataset: Dataset, found: PixelFormat) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Return the first frame's words, ``(row, column)`` or ``(row, column, 3)`` RGB, and notes.

    Words are as allocated, in any byte order; colour is complete: YBR and palettes are RGB.

    Raises:
        SkipError: ``transfer_syntax_unsupported``, ``codestream_mismatch``, ``truncated``,
            ``decode_failed``, ``bad_attribute``.
    """
    plugin, notes = "", list[str]()
    if not found.is_native:
        plugin, more = _check_compressed(dataset, found)
        notes += more
    if text(dataset, "LossyImageCompression") == "01" or found.transfer_syntax in _LOSSY:
        notes.append("lossy")
    try:  # codecs raise whatever they like
        if plugin == _GDCM_12_BIT:
            words = _decode_12_bit(dataset, found)
        else:
            words, _ = get_decoder(found.transfer_syntax).as_array(
                dataset,
                index=0,
                decoding_plugin=plugin,
                correct_unused_bits=False,
                allow_excess_frames=False,
            )
    except Exception as error:
        raise SkipError("decode_failed", f"{type(error).__name__}: {error}") from error
    shape = (found.rows, found.columns, 3)[: 2 if found.samples == 1 else 3]
    if words.shape != shape:
        raise SkipError("decode_failed", f"decoded {words.shape}, not {shape}")
    if found.photometric == "PALETTE COLOR":
        words = _apply_palette(words, dataset)
    return words, tuple(notes)


def _check_compressed(dataset: Dataset, found: PixelFormat) -> tuple[str, list[str]]:
    """Choose the decoder and compare the codestream's own size with the header's."""
    syntax = found.transfer_syntax
    if syntax not in _PLUGINS:
        raise SkipError("transfer_syntax_unsupported", syntax)
    if syntax == _RLE:
        return _plugin(found, precision=8), []
    try:
        frame = get_frame(attribute(dataset, "PixelData"), 0, number_of_frames=1)
    except Exception as error:
        raise SkipError("truncated", f"no whole frame: {error}") from error
    stream = read_codestream(frame)
    expected = (found.rows, found.columns, found.samples)
    if stream is None or (stream.rows, stream.columns, stream.samples) != expected:
        raise SkipError("codestream_mismatch", f"{stream} against {expected}")
    if stream.precision > found.bits_allocated:
        raise SkipError("codestream_mismatch", f"{stream.precision} bits a sample")
    if not stream.is_complete:
        raise SkipError("truncated", "the codestream has no end marker")
    is_other = stream.precision != found.bits_stored or (
        stream.is_signed is not None and stream.is_signed != found.is_signed
    )
    return _plugin(found, precision=stream.precision), ["codestream_sign"] if is_other else []


def _plugin(found: PixelFormat, *, precision: int) -> str:
    """Return the name of the one decoder of these pixels, if it is installed."""
    syntax = found.transfer_syntax
    name = _PLUGINS[syntax]
    if name not in get_decoder(syntax).available_plugins:
        raise SkipError("transfer_syntax_unsupported", f"{syntax}: {name} is not installed")
    if syntax != _JPEG_EXTENDED or precision == 8:
        return name
    if (precision, found.bits_allocated, found.samples) != (12, 16, 1):
        raise SkipError("transfer_syntax_unsupported", f"{syntax}: {precision} bits, {found}")
    return _GDCM_12_BIT


def _decode_12_bit(dataset: Dataset, found: PixelFormat) -> npt.NDArray[Any]:
    """Return the words of a grey JPEG Extended codestream of 12 bits.

    pydicom's own call of GDCM refuses these, though GDCM decodes them, to the same bits as
    SimpleITK. GDCM writes "Unsupported JPEG data precision 12" to stderr before it succeeds
    (https://github.com/tfmoraes/python-gdcm/issues/35).
    """
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(get_frame(dataset.PixelData, 0, number_of_frames=1))
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((found.columns, found.rows, 1))
    image.SetDataElement(element)
    grey = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    syntax = gdcm.TransferSyntax.GetTSType(found.transfer_syntax)
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, 12, 11, int(found.is_signed)))
    decoded = image.GetBuffer()
    if decoded is None:
        raise ValueError("GDCM could not decode the codestream")
    # GDCM gives its bytes as a str
    words = np.frombuffer(decoded.encode("utf-8", "surrogateescape"), np.uint16)
    return words.reshape(found.rows, found.columns)


def _apply_palette(indices: npt.NDArray[Any], dataset: Dataset) -> npt.NDArray[np.uint8]:
    """Return the colours of a palette as RGB uint8; entries of 16 bits keep the upper 8."""
    try:
        colours = apply_color_lut(indices, dataset)[..., :3]
    except Exception as error:
        raise SkipError("bad_attribute", f"palette: {error}") from error
    result: npt.NDArray[np.uint8] = (
        (colours >> 8).astype(np.uint8) if colours.dtype.itemsize == 2 else colours.astype(np.uint8)
    )
    return result

"""The pinned decoder of each DICOM transfer syntax: frames of pixels, one after the other.

Two decoders of one lossy file give different pixels. So each syntax has one decoder here, and no
caller chooses another. pylibjpeg-libjpeg (GPLv3) is never one of them, even where it is installed.
Where the one decoder is not installed the file is left out as ``transfer_syntax_unsupported``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder

from hospitium.imaging.codestream import read_codestream
from hospitium.imaging.colour import native_colour
from hospitium.imaging.elements import Elements
from hospitium.imaging.fragments import compressed_frames
from hospitium.imaging.instance import SkipError
from hospitium.imaging.pixels import PixelFormat, PixelPlace

RLE = "1.2.840.10008.1.2.5"
_RLE_HEADER = 64  # bytes: the number of segments and their offsets
_RLE_RATIO = 64  # 2 bytes stand for 128 at most (PS3.5 G.3.1)
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
_JPEG_2000, _HTJ2K = "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.203"
_GDCM_12_BIT = "gdcm, 12 bits"  # our own call: see `_decode_12_bit`
_PLUGINS = {
    RLE: "pylibjpeg",  # pylibjpeg-rle
    "1.2.840.10008.1.2.4.50": "gdcm",
    _JPEG_EXTENDED: "gdcm",  # 12 bits: see `_plugin`
    "1.2.840.10008.1.2.4.57": "gdcm",
    "1.2.840.10008.1.2.4.70": "gdcm",
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg",  # pylibjpeg-openjpeg, this and the rest
    _JPEG_2000: "pylibjpeg",
    "1.2.840.10008.1.2.4.201": "pylibjpeg",
    "1.2.840.10008.1.2.4.202": "pylibjpeg",
    _HTJ2K: "pylibjpeg",
}
_ALWAYS_LOSSY = frozenset({"1.2.840.10008.1.2.4.50", _JPEG_EXTENDED, "1.2.840.10008.1.2.4.81"})
_MAYBE_LOSSY = frozenset({_JPEG_2000, _HTJ2K})
Words: TypeAlias = npt.NDArray[Any]


def is_lossy(elements: Elements, *, transfer_syntax: str) -> bool:
    """Return whether the pixels were ever compressed with loss, or may have been.

    JPEG 2000 in the syntax that allows both counts as lossy unless the header denies it.
    """
    said = elements.text("LossyImageCompression")
    may_be = transfer_syntax in _MAYBE_LOSSY and said != "00"
    return said == "01" or may_be or transfer_syntax in _ALWAYS_LOSSY


def decode(
    elements: Elements, found: PixelFormat, place: PixelPlace
) -> Iterator[tuple[Words, tuple[str, ...]]]:
    """Yield the words of each frame, ``(row, column)`` or ``(row, column, 3)`` RGB, and notes.

    Words are as allocated, in any byte order; YBR is RGB, a palette's indices are still indices.

    Raises:
        SkipError: ``transfer_syntax_unsupported``, ``codestream_mismatch``, ``truncated``,
            ``decode_failed``, ``bad_attribute``; for any frame.
    """
    if found.is_native:
        for words in _native(elements, found, place):
            yield words, ()
        return
    if found.transfer_syntax not in _PLUGINS:
        raise SkipError("transfer_syntax_unsupported", found.transfer_syntax)
    frames = compressed_frames(elements, begin=place.begin, end=place.end, num_frames=found.frames)
    for frame in frames:
        plugin, notes = _check_compressed(frame, found)
        yield _decompressed(frame, found, plugin), notes


def _native(elements: Elements, found: PixelFormat, place: PixelPlace) -> Iterator[Words]:
    """Yield the words of each uncompressed frame, as views of the file's bytes where possible."""
    raw, begin = elements.walker.raw, place.begin
    is_big = elements.walker.is_big
    if is_big and found.bits_allocated == 8 and place.vr == "OW":  # PS3.5 7.3, bytes in words
        size = found.frame_bytes * found.frames
        pairs = np.frombuffer(raw[begin : begin + size + size % 2].ljust(size + size % 2), "u2")
        raw, begin = pairs.byteswap().tobytes(), 0
    kind = "f" if found.is_float else "u"
    dtype = np.dtype(f"{'>' if is_big else '<'}{kind}{found.bits_allocated // 8}")
    count = found.frame_bytes // dtype.itemsize
    for index in range(found.frames):
        words = np.frombuffer(raw, dtype, count=count, offset=begin + index * found.frame_bytes)
        if found.samples == 3:
            yield native_colour(words, found)
        else:
            yield words.reshape(found.rows, found.columns)


def _check_compressed(frame: bytes, found: PixelFormat) -> tuple[str, tuple[str, ...]]:
    """Choose the decoder and compare the codestream's own size with the header's."""
    if found.transfer_syntax == RLE:
        _check_rle(frame, found)
        return _plugin(found, precision=8), ()
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
    return _plugin(found, precision=stream.precision), ("codestream_sign",) if is_other else ()


def _check_rle(frame: bytes, found: PixelFormat) -> None:
    """Compare the header of run-length coding with the object's (PS3.5 G.5)."""
    if len(frame) < _RLE_HEADER:
        raise SkipError("truncated", f"{len(frame)} bytes of RLE")
    count, *offsets = struct.unpack_from("<16L", frame)
    if count != found.samples * found.bits_allocated // 8:
        raise SkipError("codestream_mismatch", f"{count} segments of RLE")
    ends = [*offsets[1:count], len(frame)]
    if offsets[0] != _RLE_HEADER or any(a >= b for a, b in zip(offsets, ends, strict=False)):
        raise SkipError("codestream_mismatch", f"segments of RLE at {offsets[:count]}")
    if len(frame) * _RLE_RATIO < found.frame_bytes:
        raise SkipError("truncated", f"{len(frame)} bytes of RLE for {found.frame_bytes}")


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


def _decompressed(frame: bytes, found: PixelFormat, plugin: str) -> Words:
    """Return the words of one compressed frame."""
    try:  # codecs raise whatever they like; those in Rust panic with a BaseException
        words = (
            _decode_12_bit(frame, found)
            if plugin == _GDCM_12_BIT
            else _decode_with(plugin, frame, found)
        )
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise SkipError("decode_failed", f"{type(error).__name__}: {error}") from error
    shape = (found.rows, found.columns, 3)[: 2 if found.samples == 1 else 3]
    if words.shape != shape:
        raise SkipError("decode_failed", f"decoded {words.shape}, not {shape}")
    return words


def _decode_with(plugin: str, frame: bytes, found: PixelFormat) -> Words:
    """Return the words that a plugin of pydicom gives."""
    words: Words = get_decoder(found.transfer_syntax).as_array(
        encapsulate([frame], has_bot=False),
        index=0,
        decoding_plugin=plugin,
        correct_unused_bits=False,
        allow_excess_frames=False,
        rows=found.rows,
        columns=found.columns,
        number_of_frames=1,
        samples_per_pixel=found.samples,
        bits_allocated=found.bits_allocated,
        bits_stored=found.bits_stored,
        pixel_representation=int(found.is_signed),
        photometric_interpretation=found.photometric,
        planar_configuration=found.planar or 0,
        pixel_keyword="PixelData",
    )[0]
    return words


def _decode_12_bit(frame: bytes, found: PixelFormat) -> Words:
    """Return the words of a grey JPEG Extended codestream of 12 bits.

    pydicom's own call of GDCM refuses these, though GDCM decodes them, to the same bits as
    SimpleITK. GDCM writes "Unsupported JPEG data precision 12" to stderr before it succeeds
    (https://github.com/tfmoraes/python-gdcm/issues/35).
    """
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
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

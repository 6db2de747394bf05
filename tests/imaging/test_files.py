import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hospitium.imaging.files import parse_image, read_file
from hospitium.imaging.instance import Instance, Limits, Skip


def saved(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize(("dtype", "end"), [(np.uint8, 255.0), (np.uint16, 65535.0)])
def test_grey_images_keep_their_values_and_bit_depth(png, ramp, format, dtype, end):
    found = parse_image(png(ramp.astype(dtype), format=format))
    np.testing.assert_array_equal(found.values[0], ramp)
    assert found.range == (0.0, end)
    assert found.facts.bits_stored == np.dtype(dtype).itemsize * 8


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK"])
def test_every_usual_mode_becomes_grey_or_rgb(mode):
    image = Image.linear_gradient("L").resize((8, 6)).convert("RGB").convert(mode)
    found = parse_image(saved(image, "TIFF" if mode in ("CMYK", "PA") else "PNG"))
    assert isinstance(found, Instance)
    assert found.values[0].shape == ((6, 8) if mode in ("1", "L", "LA") else (6, 8, 3))
    assert found.range == (0.0, 255.0)
    assert ("alpha_dropped" in found.notes) == (mode in ("LA", "RGBA", "PA"))


def test_a_white_is_zero_tiff_of_16_bits_is_turned_over(ramp):
    raw = saved(Image.fromarray(ramp), "TIFF", tiffinfo={262: 0})
    found = parse_image(raw)
    np.testing.assert_array_equal(found.values[0], 65535.0 - ramp)
    assert "inverted" in found.notes


def test_the_exif_rotation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    found = parse_image(saved(Image.new("L", (8, 6), 9), "JPEG", exif=exif))
    assert found.values.shape == (1, 8, 6)
    assert {"rotated", "lossy"} <= set(found.notes)


def test_a_tiff_of_several_pages_gives_the_first():
    pages = [Image.new("L", (4, 4), grey) for grey in (10, 20)]
    found = parse_image(saved(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    assert found.values.max() == 10
    assert "first_page" in found.notes


def test_floating_point_images_are_refused():
    assert parse_image(saved(Image.new("F", (4, 4)), "TIFF")).reason == "bad_attribute"
    wide = Image.fromarray(np.full((4, 4), 1 << 20, np.int32))
    assert parse_image(saved(wide, "TIFF")).reason == "bad_attribute"


def test_bombs_are_refused_by_their_header():
    small = saved(Image.new("1", (12_000, 12_000)), "PNG")
    assert parse_image(small).reason == "too_large"
    assert parse_image(small, limits=Limits(max_side=100)).reason == "too_large"
    assert parse_image(saved(Image.new("L", (9, 9)), "PNG"), limits=Limits(max_pixels=80)).reason


def test_a_cut_image_is_left_out(png, ramp):
    raw = png(np.tile(ramp, (20, 20)))
    assert parse_image(raw[: len(raw) // 2]).reason in ("truncated", "decode_failed")
    assert parse_image(b"").reason == "not_an_image"


def test_content_decides_not_the_name(tmp_path, dicom, png, ramp):
    for name, raw in (("a.png", dicom(ramp)), ("b.dcm", png(ramp)), ("c.jpg", b"hello" * 99)):
        (tmp_path / name).write_bytes(raw)
    assert read_file(tmp_path / "a.png").facts.modality == "DX"
    np.testing.assert_array_equal(read_file(tmp_path / "b.dcm").values[0], ramp)
    assert read_file(tmp_path / "c.jpg").reason == "not_an_image"
    assert read_file(tmp_path / "gone.png").reason == "unreadable_file"


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), format=st.sampled_from(["PNG", "TIFF", "JPEG"]))
def test_no_damage_to_a_file_raises_anything(png, data, format):
    raw = bytearray(png(np.arange(96, dtype=np.uint8).reshape(8, 12), format=format))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    found = parse_image(bytes(raw), limits=Limits(max_pixels=1 << 20))
    assert isinstance(found, Instance | Skip)

import io
import json
import warnings
from importlib import metadata

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import JPEG2000Lossless
from steps import steps_of

from hospitium.errors import StorageError
from hospitium.imaging import image_store
from hospitium.imaging.identity import SiteKey
from hospitium.imaging.image_store import ACTIONS_FILE, ImageReader, open_store
from hospitium.imaging.instance import Skip
from hospitium.imaging.minimise import ACTIONS
from hospitium.imaging.pipeline import Harmonise
from hospitium.imaging.sources import read_source
from hospitium.plan.schema import ImagingSection, PipelineSection

STEPS = Harmonise(size=(16, 16))
PERSON = {"PatientID": "ID-4711", "StudyInstanceUID": "1.2.3.4711", "AccessionNumber": "A4711"}


@pytest.fixture
def folder(tmp_path, make_folder, dicom, png):
    """Grey, colour, DICOM and damaged files, exact copies, and one that no plan takes."""
    draw = np.random.default_rng(3)
    pixels = [draw.integers(0, 4096, (20, 24), np.uint16) for _ in range(9)]
    for number, image in enumerate(pixels):
        name = {**PERSON, "PatientID": f"ID-{number % 4}"}
        path = tmp_path / f"i{number}.png"
        path.write_bytes(dicom(image, BitsStored=12, PixelSpacing=[0.7, 0.7], **name))
    (tmp_path / "i3.png").write_bytes(png(draw.integers(0, 256, (9, 7, 3), np.uint8)))
    (tmp_path / "i4.png").write_bytes((tmp_path / "i5.png").read_bytes())
    (tmp_path / "i6.png").write_bytes(b"not an image")
    (tmp_path / "i7.png").write_bytes(dicom(np.full((20, 24), 7, np.uint16)))
    (tmp_path / "i8.png").write_bytes(dicom(pixels[8], Modality="CR", BurnedInAnnotation="YES"))
    return make_folder([{"image": f"i{n}.png", "label": str(n % 2)} for n in range(14)])


def read(folder, store, **options):
    return read_source(folder, harmonise=STEPS, seed=7, store=store, **options)


def assert_same(one, other):
    for name in ("images", "labels", "subjects", "splits"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name
    assert (one.classes, one.skipped, one.notes) == (other.classes, other.skipped, other.notes)


@pytest.fixture
def decoded(monkeypatch):
    """The files that were decoded, one entry each."""
    found, parse = [], image_store.parse_file

    def counted(raw, *, where, options):
        found.append(where)
        return parse(raw, where=where, options=options)

    monkeypatch.setattr(image_store, "parse_file", counted)
    return found


@pytest.mark.parametrize("key", [None, SiteKey(bytes(32))])
@pytest.mark.parametrize(
    "imaging", [None, ImagingSection(burned_in="accept", pipeline=PipelineSection(size=(16, 16)))]
)
def test_cases_are_the_same_without_a_store_with_a_cold_and_with_a_warm_one(
    folder, tmp_path, decoded, key, imaging
):
    bare = read(folder, None, key=key, imaging=imaging)
    num_skipped = sum(bare.skipped.values())  # what is no case is not kept
    for num_decoded in (len(decoded) - 1, num_skipped):  # cold, of the copy none; then warm
        store = open_store(tmp_path / "cache", quota_bytes=1 << 30)
        decoded.clear()
        assert_same(read(folder, store, key=key, imaging=imaging), bare)
        assert len(decoded) == num_decoded > 0


@settings(max_examples=8, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255), keep=st.floats(0, 1))
def test_a_damaged_store_costs_the_time_to_decode_and_nothing_else(
    tmp_path_factory, images_of, where, mask, keep
):
    source, bare = images_of
    cache = tmp_path_factory.mktemp("cache")
    read(source, open_store(cache, quota_bytes=1 << 30))
    files = sorted(cache.rglob("*.safetensors"))
    for number, path in enumerate(files):
        raw = bytearray(path.read_bytes())
        raw[int(where * len(raw))] ^= mask
        path.write_bytes(raw if number % 2 else raw[: int(keep * len(raw))])
    for _ in range(2):
        assert_same(read(source, open_store(cache, quota_bytes=1 << 30)), bare)
    assert sorted(cache.rglob("*.safetensors")) == files


@pytest.fixture(scope="module")
def images_of(tmp_path_factory):
    """A folder of a few pictures, and its cases read without a store."""
    from PIL import Image

    source = tmp_path_factory.mktemp("source")
    draw = np.random.default_rng(5)
    rows = ["image,label"]
    for number in range(6):
        pixels = draw.integers(0, 256, (20, 18), np.uint8)
        Image.fromarray(pixels).save(source / f"{number}.png")
        rows.append(f"{number}.png,{number % 2}")
    (source / "labels.csv").write_text("\n".join(rows))
    return source, read(source, None)


def test_a_warm_read_knows_what_another_plan_refuses(folder, tmp_path, decoded):
    store = open_store(tmp_path / "cache", quota_bytes=1 << 30)
    accept, refuse = (ImagingSection(burned_in=word) for word in ("accept", "refuse"))
    read(folder, store, imaging=accept)
    assert_same(read(folder, store, imaging=refuse), read(folder, None, imaging=refuse))
    assert read(folder, store, imaging=refuse).skipped["burned_in"] == 1


def test_other_steps_or_options_of_the_reader_are_made_anew(folder, tmp_path, decoded):
    store = open_store(tmp_path / "cache", quota_bytes=1 << 30)
    path = folder / "i0.png"
    for steps, imaging, count in (
        (STEPS, None, 1),
        (STEPS, ImagingSection(), 1),
        (Harmonise(size=(16, 17)), None, 2),
        (STEPS, ImagingSection(voi="apply"), 3),
    ):
        found = ImageReader(steps, imaging=imaging, store=store).read(path)
        assert not isinstance(found, Skip) and len(decoded) == count


def test_no_identifier_is_kept_and_the_action_codes_lie_beside(folder, tmp_path):
    read(folder, open_store(tmp_path / "cache", quota_bytes=1 << 30))
    kept = b"".join(path.read_bytes() for path in (tmp_path / "cache").rglob("*.safetensors"))
    assert b'"modality"' in kept and b"4711" not in kept and b"ID-" not in kept
    told = json.loads((tmp_path / "cache" / ACTIONS_FILE).read_bytes())
    assert told == {"version": metadata.version("hospitium"), "actions": dict(ACTIONS)}
    before = (tmp_path / "cache" / ACTIONS_FILE).stat().st_mtime_ns
    open_store(tmp_path / "cache", quota_bytes=1 << 30)
    assert (tmp_path / "cache" / ACTIONS_FILE).stat().st_mtime_ns == before


def test_a_store_that_cannot_be_written_is_said_in_words(tmp_path):
    (tmp_path / ACTIONS_FILE).mkdir()
    with pytest.raises(StorageError, match="What was there is intact"):
        open_store(tmp_path, quota_bytes=1)


def test_a_warm_read_needs_no_codec_and_fewer_steps(tmp_path, dicom, monkeypatch):
    """How much quicker that is, `make bench` says."""
    draw = np.random.default_rng(6)
    for number in range(4):
        pixels = draw.integers(0, 4096, (64, 64), np.uint16)
        raw = dicom(pixels, BitsStored=12, SOPInstanceUID=f"1.2.{number}")
        (tmp_path / f"{number}.dcm").write_bytes(in_jpeg_2000(raw))
    reader = ImageReader(STEPS, store=open_store(tmp_path / "cache", quota_bytes=1 << 30))

    def read_all():
        return [reader.read(path)[1].tobytes() for path in sorted(tmp_path.glob("*.dcm"))]

    cold, cold_steps = steps_of(read_all)
    monkeypatch.setattr("hospitium.imaging.decoding._decompressed", None)
    warm, warm_steps = steps_of(read_all)
    assert cold == warm and warm_steps < cold_steps


def in_jpeg_2000(raw):
    dataset = pydicom.dcmread(io.BytesIO(raw))
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
        dataset.save_as(buffer)
    return buffer.getvalue()

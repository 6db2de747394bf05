import hashlib
import io
import json
import os

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.errors import CorruptedError
from hospitium.wire import blob

PARAMS = {
    "head.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "bias": np.array([1.5], np.float32),
    "empty": np.zeros((0, 4), np.float32),
    "scalar": np.array(7, np.int64),
    "moment": np.array([1e-300, -2.0]),
    "mask": np.array([0, 255], np.uint8),
}
FEW = {"b": PARAMS["bias"], "w": np.arange(4, dtype=np.float32).reshape(4, 1)}


def bytes_of(params):
    file = io.BytesIO()
    blob.write(file, params)
    return file.getvalue()


def written(folder, data):
    path = folder / "p.safetensors"
    path.write_bytes(data)
    return path


def same(left, right):
    return blob.manifest_of(left) == blob.manifest_of(right) and all(
        left[name].tobytes() == right[name].tobytes() for name in left
    )


def test_what_is_written_is_read_back_bit_for_bit(tmp_path):
    path = written(tmp_path, bytes_of(PARAMS))
    assert same(blob.read(path), PARAMS)
    assert same(blob.read(path, manifest=blob.manifest_of(PARAMS)), PARAMS)


def test_the_digest_is_that_of_the_file_and_does_not_depend_on_the_order_of_names():
    data = bytes_of(PARAMS)
    assert blob.digest_of(PARAMS) == hashlib.sha256(data).hexdigest()
    assert blob.digest_of(dict(reversed(PARAMS.items()))) == blob.digest_of(PARAMS)
    assert blob.write(io.BytesIO(), PARAMS) == blob.digest_of(PARAMS)
    assert len(data) == blob.size_of(blob.manifest_of(PARAMS))


def test_the_stock_library_reads_our_files(tmp_path):
    theirs = safetensors.numpy.load_file(written(tmp_path, bytes_of(PARAMS)))
    assert same(theirs, PARAMS)


def test_we_read_the_files_of_the_stock_library_also_with_metadata(tmp_path):
    data = safetensors.numpy.save(PARAMS, metadata={"format": "np"})
    assert same(blob.read(written(tmp_path, data)), PARAMS)


def test_arrays_are_read_only_and_the_file_is_mapped_not_copied(tmp_path):
    read = blob.read(written(tmp_path, bytes_of(PARAMS)))["head.weight"]
    assert not read.flags.writeable and not read.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        read[0, 0] = 1


def test_arrays_that_are_not_contiguous_are_written_by_value(tmp_path):
    turned = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4))
    every_other = np.arange(8, dtype=np.float32)[::2]
    read = blob.read(written(tmp_path, bytes_of({"a": turned, "b": every_other})))
    np.testing.assert_array_equal(read["a"], turned)
    np.testing.assert_array_equal(read["b"], every_other)


@pytest.mark.parametrize("dtype", ["f2", ">f4", "c8", "O", "U3", "?", "i4"])
def test_a_dtype_that_does_not_travel_is_refused_before_anything_is_written(dtype):
    with pytest.raises(TypeError, match="does not travel"):
        blob.manifest_of({"w": np.zeros(2, dtype)})


def test_a_file_of_another_manifest_is_refused_by_comparing_its_header(tmp_path):
    path = written(tmp_path, bytes_of({"w": np.zeros((2, 3), np.float32)}))
    for manifest in [
        (("v", "F32", (2, 3)),),
        (("w", "F32", (3, 2)),),
        (("w", "F32", (2, 4)),),
        (("w", "F64", (3,)),),
        (),
    ]:
        with pytest.raises(CorruptedError, match="Nothing was read from it"):
            blob.read(path, manifest=manifest)


def test_every_truncation_and_every_lengthening_is_noticed(tmp_path):
    data, manifest = bytes_of(PARAMS), blob.manifest_of(PARAMS)
    for damaged in [*(data[:end] for end in range(len(data))), data + b"\0"]:
        path = written(tmp_path, damaged)
        for known in (None, manifest):
            with pytest.raises(CorruptedError):
                blob.read(path, manifest=known)


def test_every_flipped_bit_of_a_header_is_noticed_by_whoever_knows_the_manifest(tmp_path):
    for damaged in headers_with_one_bit_flipped(FEW):
        with pytest.raises(CorruptedError):
            blob.read(written(tmp_path, damaged), manifest=blob.manifest_of(FEW))


def test_a_flipped_bit_without_a_manifest_gives_an_error_or_the_same_values(tmp_path):
    """A name or the place of a 1 in a shape may change: then the digest tells, not the header."""
    values = sorted(array.tobytes() for array in FEW.values())
    num_noticed = 0
    for damaged in headers_with_one_bit_flipped(FEW):
        try:
            read = blob.read(written(tmp_path, damaged))
        except CorruptedError:
            num_noticed += 1
        else:
            assert sorted(array.tobytes() for array in read.values()) == values
    assert num_noticed > 0.9 * 8 * len(blob.header_of(blob.manifest_of(FEW)))


def headers_with_one_bit_flipped(params):
    for bit in range(8 * len(blob.header_of(blob.manifest_of(params)))):
        damaged = bytearray(bytes_of(params))
        damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged)


def with_header(text, data=b""):
    header = text if isinstance(text, bytes) else text.encode()
    return len(header).to_bytes(8, "little") + header + data


ENTRY = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'


@pytest.mark.parametrize(
    "header",
    [
        f'{{"a":{ENTRY},"a":{ENTRY}}}',
        f'{{"a":{ENTRY},"b":{ENTRY}}}',
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}}',
        '{"a":{"dtype":"F32","shape":[1]}}',
        '{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}',
        '{"a":{"dtype":["F32"],"shape":[1],"data_offsets":[0,4]}}',
        '{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,-4]}}',
        '{"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}',
        '{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}',
        '{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}',
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        '{"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}}',
        '{"' + "a" * 201 + f'":{ENTRY}}}',
        '{"a":' * 100_000,
        "[1]",
        "null",
        '{"a":[]}',
        b"\xff\xfe",
        "1" * 5000,
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, header):
    with pytest.raises(CorruptedError):
        blob.read(written(tmp_path, with_header(header, b"\0" * 4)))


def test_a_header_of_more_arrays_than_any_model_has_is_refused(tmp_path):
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    text = json.dumps({f"a{number}": entry for number in range(blob.MAX_ARRAYS + 1)})
    with pytest.raises(CorruptedError, match="at most 4096"):
        blob.read(written(tmp_path, with_header(text)))


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=20).filter(lambda text: text != "__metadata__"),
        st.tuples(
            st.sampled_from(["f4", "f8", "i8", "u1"]),
            st.lists(st.integers(0, 4), max_size=4),
        ),
        max_size=6,
    )
)
def test_params_of_any_names_and_shapes_make_the_round_trip(tmp_path_factory, rows):
    params = {
        name: np.random.default_rng(7).integers(0, 200, shape).astype(dtype)
        for name, (dtype, shape) in rows.items()
    }
    path = written(tmp_path_factory.getbasetemp(), bytes_of(params))
    assert same(blob.read(path), params)
    assert same(blob.read(path, manifest=blob.manifest_of(params)), params)


def exactly(tmp_path, change=lambda path: None):
    """Return how a file is read that is changed once it was opened."""
    params = {"a": np.arange(300_000, dtype=np.float32), "b": np.zeros((2, 3), np.float64)}
    path = tmp_path / "change"
    with path.open("wb") as file:
        blob.write(file, params)
    with path.open("rb") as file:
        reading = blob.Exactly(file, blob.manifest_of(params))
        change(path)
        return reading.read(), path.read_bytes()


def test_a_file_of_its_manifest_is_read_exactly(tmp_path):
    found, expected = exactly(tmp_path)
    assert found == expected


def test_a_file_that_grows_while_it_is_read_is_read_as_it_was(tmp_path):
    def grow(path):
        with path.open("ab") as file:
            file.write(b"Jane Doe")

    found, now = exactly(tmp_path, grow)
    assert found == now[: -len(b"Jane Doe")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: os.truncate(path, 1000), "cut off while it was read"),
        (lambda path: os.truncate(path, 5), "cut off while it was read"),
        (lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]), "its header is not the one"),
        (lambda path: path.write_bytes(path.read_bytes()[:20] + bytes(10**7)), "its header is not"),
    ],
)
def test_a_file_that_becomes_another_while_it_is_read_is_refused(tmp_path, change, words):
    with pytest.raises(CorruptedError, match=words):
        exactly(tmp_path, change)


@pytest.mark.parametrize("more", [-1, 1, -(10**9)])
def test_a_file_of_another_size_is_not_read_at_all(tmp_path, more):
    manifest = blob.manifest_of({"a": np.zeros(7, np.float32)})
    size = max(0, blob.size_of(manifest) + more)
    with pytest.raises(CorruptedError, match=f"{size} bytes found"):
        blob.Exactly(io.BytesIO(bytes(size)), manifest)


def test_a_file_can_be_read_from_any_place(tmp_path):
    params = {"a": np.arange(7, dtype=np.float32)}
    data = b"".join(bytes(block) for block in blob.blocks_of(params))
    reading = blob.Exactly(io.BytesIO(data), blob.manifest_of(params))
    assert reading.seekable() and reading.seek(0, os.SEEK_END) == len(data)
    for at in (0, 3, len(data) - 4, len(data)):
        assert reading.seek(at) == at and reading.read() == data[at:]
    assert reading.seek(-2, os.SEEK_CUR) == len(data) - 2

"""Chunks in any order, hashed by themselves or through, with kills in between: one whole file."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.errors import StateConflictError
from hospitium.state.spares import Spares
from hospitium.state.unfinished import MIN_CHUNK_BYTES as CHUNK
from hospitium.state.unfinished import Shape
from hospitium.state.uploads import Uploads

DATA = b"".join(bytes([number]) * CHUNK for number in range(4)) + b"end"
SHAPE = Shape(total_bytes=len(DATA), chunk_bytes=CHUNK)
NAME = hashlib.sha256(DATA).hexdigest()


def chunk(index):
    return DATA[index * CHUNK : (index + 1) * CHUNK]


def opened(folder):
    return Uploads(folder, spares=Spares(folder / "spares", most=1))


def put(uploads, index, *, data=None):
    data = chunk(index) if data is None else data
    digest = hashlib.sha256(data).digest()
    uploads.put("oslo", NAME, SHAPE, index, [data[:5], data[5:]], sha256=digest)


def put_through(uploads, index):
    """Put a chunk by the digest of the file through it; False where it is not the next one."""
    sha256 = uploads.before("oslo", NAME, SHAPE, index)
    if sha256 is None:
        return False
    sha256.update(chunk(index))
    assert sha256.digest() == hashlib.sha256(DATA[: (index + 1) * CHUNK]).digest()
    uploads.put("oslo", NAME, SHAPE, index, [chunk(index)], sha256=sha256.digest(), through=sha256)
    return True


STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "through", "kill", "tear"]), st.integers(0, 4)), max_size=14
)


@settings(max_examples=150)
@given(steps=STEPS)
def test_whatever_the_order_and_the_kills_the_file_is_whole_in_the_end(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("uploads")
    uploads, here = opened(folder), set()
    for what, index in steps:
        if what == "put":
            put(uploads, index)
            here.add(index)
        elif what == "through":
            is_next = index == next(n for n in range(6) if n not in here)
            assert put_through(uploads, index) == is_next
            here |= {index} if is_next else set()
        else:
            part = folder / "uploads" / "oslo" / f"{NAME}.part"
            if what == "tear" and index in here:
                with part.open("r+b") as file:
                    file.seek(index * CHUNK)
                    file.write(b"torn")
            uploads = opened(folder)
            found = uploads.chunks("oslo", NAME)
            still = set(found[1]) if found else set()
            assert still <= here and (what == "kill" or index not in still)
            assert what == "tear" or still == here
            here = still
    for index in set(range(5)) - here:
        assert uploads.finish("oslo", NAME) is None
        put(uploads, index)
    assert uploads.finish("oslo", NAME) == NAME
    assert uploads.received("oslo", NAME).read_bytes() == DATA


@pytest.mark.parametrize("first", [put, put_through])
def test_the_same_bytes_again_change_nothing_and_others_are_refused(tmp_path, first):
    uploads = opened(tmp_path)
    first(uploads, 0)
    put(uploads, 0)
    assert not put_through(uploads, 0)
    with pytest.raises(StateConflictError):
        put(uploads, 0, data=b"x" * CHUNK)
    assert uploads.chunks("oslo", NAME) == (SHAPE, [0])
    for index in range(1, 5):
        assert put_through(uploads, index)
    assert uploads.finish("oslo", NAME) == NAME


def test_what_does_not_fit_an_upload_has_nothing_before_it(tmp_path):
    uploads = opened(tmp_path)
    other = Shape(total_bytes=len(DATA), chunk_bytes=2 * CHUNK)
    assert uploads.before("oslo", NAME, SHAPE, 1) is None
    put(uploads, 0)
    assert uploads.before("oslo", NAME, other, 1) is None
    assert uploads.before("bergen", NAME, SHAPE, 1) is None
    assert uploads.before("oslo", NAME, SHAPE, 1).digest() == hashlib.sha256(chunk(0)).digest()

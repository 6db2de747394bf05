"""Chunks in any order, hashed by themselves or through, with kills in between: one whole file."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.errors import StateConflictError
from hospitium.state import spares
from hospitium.state.spares import Spares
from hospitium.state.unfinished import MIN_CHUNK_BYTES as CHUNK
from hospitium.state.unfinished import NotNextError, OtherDigestError, Shape
from hospitium.state.uploads import MAX_OPEN, Uploads

DATA = b"".join(bytes([number]) * CHUNK for number in range(4)) + b"end"
SHAPE = Shape(total_bytes=len(DATA), chunk_bytes=CHUNK)
NAME = hashlib.sha256(DATA).hexdigest()


def chunk(index):
    return DATA[index * CHUNK : (index + 1) * CHUNK]


@pytest.fixture(autouse=True)
def of_any_size(monkeypatch):
    monkeypatch.setattr(spares, "LEAST_BYTES", 1)


def opened(folder):
    kept = Spares(folder / "spares", most=1)
    if not (folder / "uploads").exists():  # the first one is written over a longer file
        (folder / "old").write_bytes(b"old bytes" * len(DATA))
        kept.keep(folder / "old")
    return Uploads(folder, spares=kept)


def put(uploads, index, *, data=None):
    data = chunk(index) if data is None else data
    digest = hashlib.sha256(data).digest()
    uploads.put("oslo", NAME, SHAPE, index, [data[:5], data[5:]], sha256=digest)


def put_through(uploads, index):
    """Put a chunk by the digest of the file through it; False where it is not the next one."""
    sha256 = hashlib.sha256(DATA[: (index + 1) * CHUNK]).digest()
    try:
        uploads.put("oslo", NAME, SHAPE, index, [chunk(index)], sha256=sha256, is_through=True)
    except NotNextError:
        return False
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


def test_a_digest_that_is_not_of_the_file_through_a_chunk_writes_nothing(tmp_path):
    uploads = opened(tmp_path)
    for index in (0, 1):
        wrong = hashlib.sha256(b"other").digest()
        for digest in (wrong, hashlib.sha256(chunk(index)).digest() if index else wrong):
            with pytest.raises(OtherDigestError):
                uploads.put(
                    "oslo", NAME, SHAPE, index, [chunk(index)], sha256=digest, is_through=True
                )
        assert uploads.chunks("oslo", NAME) == ((SHAPE, [0]) if index else None)
        assert put_through(uploads, index)


def test_an_upload_that_was_begun_anew_does_not_go_on_from_the_one_before(tmp_path):
    """What a site signed of one beginning of a file is not taken for another beginning."""
    uploads, evil = opened(tmp_path), b"evil" * (CHUNK // 4)
    assert put_through(uploads, 0)
    for number in range(MAX_OPEN):
        name = hashlib.sha256(bytes([number])).hexdigest()
        uploads.put("oslo", name, SHAPE, 0, [evil], sha256=hashlib.sha256(evil).digest())
    assert uploads.chunks("oslo", NAME) is None
    put(uploads, 0, data=evil)
    with pytest.raises(OtherDigestError):
        put_through(uploads, 1)
    for index in range(1, 5):
        put(uploads, index)
    assert uploads.finish("oslo", NAME) != NAME


@pytest.mark.parametrize("note", [bytes(40), b"\xff" * 40, b"half a note", bytes(39) + b"x"])
@pytest.mark.parametrize("first", [put, put_through])
def test_a_torn_note_costs_no_chunk_that_is_here(tmp_path, note, first):
    uploads = opened(tmp_path)
    for index in range(3):
        first(uploads, index)
    with (tmp_path / "uploads" / "oslo" / f"{NAME}.chunks").open("ab") as notes:
        notes.write(note)
    again = opened(tmp_path)
    assert again.chunks("oslo", NAME) == (SHAPE, [0, 1, 2])
    assert put_through(again, 3) and put_through(again, 4)
    assert again.finish("oslo", NAME) == NAME


def test_a_chunk_that_does_not_fit_an_upload_is_not_the_next_one(tmp_path):
    uploads = opened(tmp_path)
    assert not put_through(uploads, 1)
    put(uploads, 0)
    other = Shape(total_bytes=len(DATA) + 1, chunk_bytes=CHUNK)
    digest = hashlib.sha256(DATA[: 2 * CHUNK]).digest()
    with pytest.raises(StateConflictError):
        uploads.put("oslo", NAME, other, 1, [chunk(1)], sha256=digest, is_through=True)
    with pytest.raises(NotNextError):
        uploads.put("bergen", NAME, SHAPE, 1, [chunk(1)], sha256=digest, is_through=True)

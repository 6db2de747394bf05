"""What a hub, or whatever stands before it, may answer a site: nothing of it does harm."""

import hashlib
import json
import tracemalloc
import zlib

import pytest
from hostile import HostileHub, answering

from hospitium.engines.hub import hearing
from hospitium.engines.hub.client import HubClient
from hospitium.errors import CorruptedError, HubError
from hospitium.wire.canonical import canonical_json
from hospitium.wire.signing import SigningKey

CHALLENGE = canonical_json({"challenge": "a" * 64})
MODEL = b"model" * 1000
SHA256 = hashlib.sha256(MODEL).hexdigest()


@pytest.fixture
def ask(tmp_path):
    """Return a client of a hub that gives a challenge, and then answers as a test says."""
    hubs = []

    def of(answer):
        def answers(line):
            return answering(CHALLENGE) if "/v1/challenge" in line else answer(line)

        hub = HostileHub(tmp_path, answers)
        client = HubClient(hub.connection(), key=SigningKey.generate())
        hubs.append((hub, client))
        return client

    yield of
    for hub, client in hubs:
        client.close()
        hub.stop()


CALLS = {
    "tasks": lambda client: client.tasks(after=0, wait_s=0),
    "lists": lambda client: client.members(after=0),
    "plans": lambda client: client.plans(),
    "beat": lambda client: client.beat(b"{}"),
    "standing": lambda client: client.standing(),
    "enrol": lambda client: client.enrol(b"{}"),
    "echo": lambda client: client.echo(b"x"),
    "chunks": lambda client: client._uploader.here("0" * 64),
}
BODIES = {
    "nothing": b"",
    "deep nesting": b"[" * 100_000,
    "an object as deep": b'{"tasks":' * 30_000,
    "a huge number": b'{"tasks":' + b"9" * 5000 + b"}",
    "another type": b'{"tasks":"x","lists":7,"plans":null}',
    "a list": b"[]",
    "not a number": b'{"chunk_bytes":NaN,"total_bytes":1,"chunks":[]}',
    "a page of a proxy": b"<html>Blocked by policy</html>",
    "no UTF-8": b"\xff\xfe\x00",
    "two of one key": b'{"tasks":[],"tasks":[]}',
    "a key more": b'{"tasks":[],"lists":[],"plans":[],"more":1}',
}


@pytest.mark.parametrize("body", BODIES)
def test_an_answer_in_another_form_ends_in_one_clear_refusal(ask, body):
    client = ask(lambda line: answering(BODIES[body]))
    for call in CALLS.values():
        with pytest.raises(HubError) as caught:
            call(client)
        assert caught.value.reason == "unreachable" and "Nothing was lost" in str(caught.value)


@pytest.fixture(scope="module")
def bomb():
    """A few hundred KiB that would be 200 MiB."""
    packer, block = zlib.compressobj(9, wbits=31), b"[" * (1 << 20)
    return b"".join([*(packer.compress(block) for _ in range(200)), packer.flush()])


def test_a_compressed_answer_is_not_unpacked(ask, bomb):
    assert len(bomb) < 1 << 19
    client = ask(lambda line: answering(bomb, content_encoding="gzip"))
    tracemalloc.start()
    try:
        for call in CALLS.values():
            with pytest.raises(HubError, match="compressed"):
                call(client)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_an_answer_without_end_is_given_up_at_its_bound(ask, monkeypatch):
    monkeypatch.setattr(hearing, "SMALL_BYTES", 1 << 16)
    monkeypatch.setattr(hearing, "LARGE_BYTES", 1 << 18)
    client = ask(lambda line: answering(b" " * (1 << 20)))
    for name, most in (("standing", 1 << 16), ("tasks", 1 << 18)):
        with pytest.raises(HubError, match=f"more than {most} bytes"):
            CALLS[name](client)


def test_a_model_is_not_written_beyond_its_size(ask, tmp_path):
    client = ask(lambda line: answering(MODEL + b"x" * (1 << 20)))
    target = tmp_path / "model"
    with pytest.raises(CorruptedError, match="more than the 5000 bytes"):
        client.fetch(SHA256, target, size_bytes=len(MODEL))
    assert not target.exists() and not target.with_suffix(".part").exists()


def test_a_model_of_another_digest_is_deleted(ask, tmp_path):
    client = ask(lambda line: answering(MODEL[::-1]))
    with pytest.raises(CorruptedError):
        client.fetch(SHA256, tmp_path / "model", size_bytes=len(MODEL))
    assert not list(tmp_path.glob("model*"))


@pytest.mark.parametrize(
    "fields",
    [
        {"total_bytes": 1 << 53, "chunk_bytes": 1, "chunks": [[0, (1 << 53) - 1]]},
        {"total_bytes": 10, "chunk_bytes": 0, "chunks": []},
        {"total_bytes": 10, "chunk_bytes": 10, "chunks": [[0, 5]]},
        {"total_bytes": 10, "chunk_bytes": 10, "chunks": [[3, 0]]},
    ],
)
def test_chunks_that_there_cannot_be_are_not_believed(ask, fields):
    client = ask(lambda line: answering(canonical_json(fields)))
    with pytest.raises(HubError):
        CALLS["chunks"](client)


def test_words_of_an_error_reach_a_terminal_without_its_commands(ask):
    words = "\x1b]0;owned\x07\x1b[2J" + "a" * 10_000
    body = json.dumps({"ok": False, "code": "E205", "reason": "busy", "error": words})
    client = ask(lambda line: answering(body.encode(), status="403 Forbidden"))
    with pytest.raises(HubError) as caught:
        CALLS["standing"](client)
    assert caught.value.reason == "busy"
    assert str(caught.value).isprintable() and len(str(caught.value)) <= hearing.MAX_WORDS


@pytest.mark.parametrize("wait", ["9" * 4000, "-1", "1e9", "soon"])
def test_a_strange_time_to_wait_is_bounded(ask, wait):
    body = canonical_json({"ok": False, "code": "E205", "reason": "used", "error": "x"})
    client = ask(lambda line: answering(body, status="409 Conflict", retry_after=wait))
    with pytest.raises(HubError) as caught:
        CALLS["standing"](client)
    assert 0.0 <= caught.value.retry_after_s <= 3600.0


def test_a_redirection_is_not_followed(ask):
    client = ask(lambda line: answering(b"", status="302 Found", location="http://127.0.0.1:1/"))
    with pytest.raises(HubError):
        CALLS["standing"](client)

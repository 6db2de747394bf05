"""A line that breaks: what had arrived is not sent again, and the call returns in the end."""

import math
import threading

import httpx
import numpy as np
import pytest
from faulty_proxy import Fault, FaultyProxy
from hub_federation import Running
from relay import CuttingRelay
from throwaway_ca import write_certificates

from hospitium.engines.hub import uploading
from hospitium.engines.hub.client import HubClient, StoppedError
from hospitium.engines.hub.messages import Receipt, Reply
from hospitium.errors import CorruptedError, HubError
from hospitium.state.hub_store import OpenTask
from hospitium.state.unfinished import (
    CHUNK_BYTES,
    MAX_CHUNK_BYTES,
    MIN_CHUNK_BYTES,
    PROXY_CHUNK_BYTES,
    NotNextError,
)
from hospitium.wire.canonical import digest
from hospitium.wire.running_digest import RunningDigest

SITE = "site-1"
NONCE = "a" * 64
NUM_CHUNKS = 6
MODEL = np.random.default_rng(3).bytes(NUM_CHUNKS * MIN_CHUNK_BYTES - 77)


@pytest.fixture
def running(tmp_path):
    running = Running(place=tmp_path, site_ids=[SITE])
    path = tmp_path / "model"
    path.write_bytes(MODEL)
    task = OpenTask(
        run_id="r", site_id=SITE, nonce=NONCE, envelope=b"t", blob=digest(MODEL),
        upload_bytes=len(MODEL),
    )  # fmt: skip
    running.backend.enqueue([task], blob=path)
    yield running
    running.stop()


def client_of(running, *, port=None, stop=None, log=print, **more):
    url = f"https://127.0.0.1:{port or running.port}"
    settings = {"chunk_bytes": MIN_CHUNK_BYTES, "timeout_s": 20.0, **more}
    connection = running.connection(url=url, **settings)
    return HubClient(connection, key=running.request_key(SITE), stop=stop, log=log)


def hand_in(running, client, tmp_path):
    file = tmp_path / "update"
    file.write_bytes(MODEL)
    statement = Reply(kind="update", nonce=NONCE, content=b"u").signed(running.signing_key(SITE))
    receipt = client.upload(file, digest(MODEL), statement)
    Receipt.opened(receipt, key=running.key.public, site_id=SITE, statement=statement)
    (stored,) = running.backend.answers(NONCE, after=0, wait_s=0)
    assert running.backend.received(stored).read_bytes() == MODEL


def test_an_upload_arrives_with_a_receipt(running, tmp_path):
    client = client_of(running)
    hand_in(running, client, tmp_path)
    client.close()


def test_an_upload_that_is_cut_at_every_chunk_goes_on_where_it_was(running, tmp_path):
    cuts = [(round((index + 0.5) * MIN_CHUNK_BYTES), 1 << 60) for index in (1, 1, 2, 1, 0)]
    relay = CuttingRelay(running.port, cut_after=cuts)
    client = client_of(running, port=relay.port)
    hand_in(running, client, tmp_path)
    assert relay.num_cuts == len(cuts)
    again = relay.to_server - len(MODEL)
    assert again < (len(cuts) + 2) * MIN_CHUNK_BYTES
    client.close()
    relay.close()


def test_a_download_that_is_cut_goes_on_where_it_was(running, tmp_path):
    cuts = [(1 << 60, size) for size in (150_000, 50_000, 10, 200_000)]
    relay = CuttingRelay(running.port, cut_after=cuts)
    client = client_of(running, port=relay.port)
    client.fetch(digest(MODEL), tmp_path / "got", size_bytes=len(MODEL))
    assert (tmp_path / "got").read_bytes() == MODEL
    assert relay.num_cuts == len(cuts)
    client.close()
    relay.close()


def test_a_download_goes_on_with_what_an_earlier_process_fetched(running, tmp_path):
    (tmp_path / "got.part").write_bytes(MODEL[:100_000])
    client = client_of(running)
    client.fetch(digest(MODEL), tmp_path / "got", size_bytes=len(MODEL))
    assert (tmp_path / "got").read_bytes() == MODEL
    client.close()


def test_a_download_of_other_bytes_is_deleted(running, tmp_path):
    (tmp_path / "got.part").write_bytes(b"other" * 100)
    client = client_of(running)
    with pytest.raises(CorruptedError):
        client.fetch(digest(MODEL), tmp_path / "got", size_bytes=len(MODEL))
    assert not list(tmp_path.glob("got*"))
    client.close()


def test_an_upload_goes_on_after_the_hub_was_started_anew(running, tmp_path):
    client = client_of(running)
    file = tmp_path / "update"
    file.write_bytes(MODEL)
    uploader = client._uploader
    uploader.send_missing(file, digest(MODEL), chunk_bytes=MIN_CHUNK_BYTES, here={3, 4, 5})
    running.stop_server()
    anew = Running(place=tmp_path, site_ids=[SITE], port=running.port)
    assert uploader.here(digest(MODEL)) == (MIN_CHUNK_BYTES, {0, 1, 2})
    hand_in(anew, client, tmp_path)
    client.close()
    anew.stop()


def test_a_call_waits_for_a_hub_that_is_not_there_yet_and_ends_when_it_is_stopped(running):
    stop = threading.Event()
    client = client_of(running, stop=stop)
    running.stop_server()
    threading.Timer(0.5, stop.set).start()
    with pytest.raises(StoppedError):
        client.tasks(after=0, wait_s=0)
    client.close()


def test_a_stop_that_comes_while_it_connects_is_not_missed(running, monkeypatch):
    stop = threading.Event()
    client = client_of(running, stop=stop)
    trace, seen = client._asker._trace, []

    def stop_then(event, info):
        seen.append(event)
        if event.endswith("connect_tcp.started"):
            stop.set()
            client.interrupt()
        trace(event, info)

    monkeypatch.setattr(client._asker, "_trace", stop_then)
    with pytest.raises(StoppedError):
        client.tasks(after=0, wait_s=20)
    assert not [event for event in seen if event.endswith("response_headers.complete")]
    client.close()


def test_a_refusal_is_said_at_once(running, tmp_path):
    client = client_of(running)
    with pytest.raises(HubError) as caught:
        client.fetch("0" * 64, tmp_path / "got", size_bytes=5)
    assert caught.value.reason == "not_found"
    running.members.clear()
    with pytest.raises(HubError) as caught:
        client.tasks(after=0, wait_s=0)
    assert caught.value.reason == "signature"
    client.close()


@pytest.mark.parametrize(("max_body", "kib"), [(2 << 20, None), (300_000, 256), (100_000, 64)])
def test_behind_a_proxy_that_refuses_large_bodies_pieces_are_halved_until_they_pass(
    running, tmp_path, monkeypatch, max_body, kib
):
    ca, certificate, key = write_certificates(tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    said = []
    with FaultyProxy(Fault(opens_tls=both, trusts=ca, max_body=max_body)) as proxy:
        client = client_of(running, proxy=proxy.url, chunk_bytes=CHUNK_BYTES, log=said.append)
        hand_in(running, client, tmp_path)
        halved = [text for text in said if "do not pass" in text]
        assert bool(halved) == (kib is not None)
        assert kib is None or halved[-1].endswith(f"from now on they have {kib} KiB")
        sizes = []
        monkeypatch.setattr(client._uploader, "send_missing", lambda *_, **o: sizes.append(o) or 1)
        (tmp_path / "next").write_bytes(b"n" * CHUNK_BYTES)
        client._uploader.send(tmp_path / "next", "b" * 64)
        passing = {kib << 10} if kib else {CHUNK_BYTES, PROXY_CHUNK_BYTES}
        assert sizes[0]["chunk_bytes"] in passing
        client.close()


@pytest.mark.parametrize(("fast_s", "then"), [(0.0, CHUNK_BYTES), (math.inf, MAX_CHUNK_BYTES)])
def test_on_a_fast_line_the_next_file_goes_in_larger_pieces(
    running, tmp_path, monkeypatch, fast_s, then
):
    monkeypatch.setattr(uploading, "FAST_PIECE_S", fast_s)
    monkeypatch.setattr(uploading, "CHUNK_BYTES", len(MODEL))  # smaller files prove no speed
    client = client_of(running, chunk_bytes=CHUNK_BYTES)
    file = tmp_path / "update"
    for content, expected in ((MODEL, CHUNK_BYTES), (MODEL[::-1], then)):
        file.write_bytes(content)
        client._uploader.send(file, digest(content))
        shape, here = running.backend.chunks(SITE, digest(content))
        assert shape.chunk_bytes == expected
        assert len(here) == shape.num_chunks
    client.close()


class OlderHub:
    """Takes pieces of 1 MiB at most, and says so in words of its own."""

    def __init__(self):
        self.sizes, self.said = [], []
        self.log = self.said.append

    def ask(self, question, *, content=b"", content_sha256="", tries=math.inf):
        if question.method == "GET":
            raise HubError("not_found", "no such upload", status=404)
        if len(content) > CHUNK_BYTES:
            raise HubError("blob_size", "too large a piece", status=400)
        self.sizes.append(len(content))


def test_larger_pieces_that_a_hub_refuses_are_sent_as_before_and_small_files_prove_no_speed(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(uploading, "FAST_PIECE_S", math.inf)
    hub, file = OlderHub(), tmp_path / "update"
    uploader = uploading.Uploader(hub, chunk_bytes=CHUNK_BYTES)
    file.write_bytes(b"few")
    uploader.send(file, "a" * 64)
    assert uploader._first_bytes == CHUNK_BYTES
    for name in "bc":
        file.write_bytes(bytes(2 * CHUNK_BYTES + 1))
        uploader.send(file, name * 64)
    assert hub.sizes == [3, *[CHUNK_BYTES, CHUNK_BYTES, 1] * 2]
    assert [text.split()[2] for text in hub.said] == ["4096", "2048"]


@pytest.mark.parametrize(
    ("proxy", "variable", "expected"),
    [
        (None, "", MAX_CHUNK_BYTES),
        ("http://proxy.test:3128", "", PROXY_CHUNK_BYTES),
        (None, "http://proxy.test:3128", PROXY_CHUNK_BYTES),
    ],
)
def test_through_a_proxy_pieces_stay_at_what_most_of_them_let_through(
    running, monkeypatch, proxy, variable, expected
):
    monkeypatch.setenv("HTTPS_PROXY", variable)
    client = client_of(running, proxy=proxy, chunk_bytes=CHUNK_BYTES)
    assert client._uploader._fast_bytes == expected
    client.close()


def questions_of(client, monkeypatch):
    """Return a list to which the query of each chunk goes that this client sends."""
    found, real = [], client._uploader._asker.once

    def once(question, **options):
        if "/chunks/" in question.path:
            found.append((int(question.path.rsplit("/", 1)[1]), "through=1" in question.query))
        return real(question, **options)

    monkeypatch.setattr(client._uploader._asker, "once", once)
    return found


def test_one_hash_serves_for_the_pieces_and_the_file_from_wherever_an_upload_goes_on(
    running, tmp_path, monkeypatch
):
    client, file = client_of(running, chunk_bytes=MIN_CHUNK_BYTES), tmp_path / "update"
    file.write_bytes(MODEL)
    sent, name = questions_of(client, monkeypatch), digest(MODEL)
    uploader, chunk_bytes = client._uploader, MIN_CHUNK_BYTES
    last = -(-len(MODEL) // chunk_bytes) - 1
    uploader.send_missing(file, name, chunk_bytes=chunk_bytes, here={0, *range(2, last + 1)})
    assert sent == [(1, True), (1, False)]  # nothing before it is here: it is signed by itself
    uploader.send(file, name)
    assert sent[2:] == [(index, True) for index in (0, *range(2, last + 1))]
    assert running.backend.finish_upload(SITE, name) == name
    client.close()


def test_a_piece_whose_answer_was_lost_is_signed_by_itself_and_the_next_files_as_before(
    running, tmp_path, monkeypatch
):
    client, file = client_of(running, chunk_bytes=MIN_CHUNK_BYTES), tmp_path / "update"
    sent, lost = questions_of(client, monkeypatch), []
    watched = client._uploader._asker.once

    def once(question, **options):
        response = watched(question, **options)
        if question.path.endswith("/chunks/1") and not lost:
            lost.append(question)
            raise httpx.ReadTimeout("the answer was lost")
        return response

    monkeypatch.setattr(client._uploader._asker, "once", once)
    for content in (MODEL, MODEL[::-1]):
        file.write_bytes(content)
        client._uploader.send(file, digest(content))
        assert running.backend.finish_upload(SITE, digest(content)) == digest(content)
    num = -(-len(MODEL) // MIN_CHUNK_BYTES)
    once_more = [(1, True), *((index, False) for index in range(1, num))]
    assert sent == [(0, True), (1, True), *once_more, *((n, True) for n in range(num))]
    client.close()


@pytest.mark.parametrize("size", [3 * CHUNK_BYTES, 3 * CHUNK_BYTES + 5, CHUNK_BYTES, 7])
@pytest.mark.parametrize("chunk_bytes", [MIN_CHUNK_BYTES, CHUNK_BYTES, MAX_CHUNK_BYTES])
@pytest.mark.parametrize("here", [set(), {0}])
def test_digests_that_are_known_are_those_that_would_be_made(tmp_path, size, chunk_bytes, here):
    content, running_digest = np.random.default_rng(size).bytes(size), RunningDigest()
    for start in range(0, size, 700_001):
        running_digest.update(content[start : start + 700_001])
    assert running_digest.hexdigest() == digest(content)
    file = tmp_path / "update"
    file.write_bytes(content)
    options = {"chunk_bytes": chunk_bytes, "here": here, "is_through": True}
    known = uploading.Pieces(file, **options, known=running_digest.through())
    made = list(uploading.Pieces(file, **options).missing())
    assert list(known.missing()) == made
    assert bool(known._known) == (chunk_bytes % CHUNK_BYTES == 0 or size < chunk_bytes)
    assert all(sha256 == digest(content[: (index + 1) * chunk_bytes]) for index, _, sha256 in made)


def test_a_file_that_is_not_what_it_was_when_it_was_written_is_hashed_again(running, tmp_path):
    client, file = client_of(running, chunk_bytes=CHUNK_BYTES), tmp_path / "update"
    file.write_bytes(MODEL)
    name = digest(MODEL)
    uploading.remember(name, {len(MODEL): digest(b"what it was")})
    client._uploader.send(file, name)
    assert running.backend.finish_upload(SITE, name) == name
    client.close()


def test_a_hub_that_keeps_no_such_hash_is_asked_once(running, tmp_path, monkeypatch):
    real = running.backend.put_chunk

    def put_chunk(*args, is_through=False, **options):
        if is_through:
            raise NotNextError
        real(*args, **options)

    monkeypatch.setattr(running.backend, "put_chunk", put_chunk)
    client, file = client_of(running, chunk_bytes=MIN_CHUNK_BYTES), tmp_path / "update"
    sent = questions_of(client, monkeypatch)
    for content in (MODEL, MODEL[::-1]):
        file.write_bytes(content)
        client._uploader.send(file, digest(content))
        assert running.backend.finish_upload(SITE, digest(content)) == digest(content)
    assert [row for row in sent if row[1]] == [(0, True)]
    client.close()


@pytest.mark.ci
def test_a_proxy_that_cuts_large_bodies_is_passed_in_small_pieces(running, tmp_path):
    said = []
    relay = CuttingRelay(running.port, cut_after=[(100_000, 1 << 60)] * 16)
    client = client_of(running, port=relay.port, chunk_bytes=2 * MIN_CHUNK_BYTES, log=said.append)
    hand_in(running, client, tmp_path)
    assert any(text.endswith("from now on they have 64 KiB") for text in said)
    client.close()
    relay.close()

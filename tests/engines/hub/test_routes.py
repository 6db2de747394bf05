"""Over real TLS: who may do what, and that nobody can do it in another's name."""

import hashlib
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest
from desks import Centre
from hub_federation import Running

from hospitium.engines.hub.beats import Beat
from hospitium.engines.hub.limits import Limits
from hospitium.engines.hub.messages import NO_TASK, Receipt, Reply
from hospitium.engines.hub.office import Office
from hospitium.engines.hub.requests import HEADER, Question, Signer
from hospitium.state.hub_store import OpenTask
from hospitium.state.unfinished import MIN_CHUNK_BYTES
from hospitium.wire.canonical import digest
from hospitium.wire.signing import SigningKey

SITES = ("site-1", "site-2", "site-3")
MODEL = b"model" * 1000
DATA = b"x" * (MIN_CHUNK_BYTES + 10)
BEAT = Beat(state="training", version="0.1.0", decoding=True, round_number=7).encoded()
ROUTES = (
    "tasks", "blob", "upload", "chunk", "complete", "envelopes", "members", "plans", "said",
    "heartbeat", "standing", "echo", "echo_back",
)  # fmt: skip
WITH_BODY = ("chunk", "complete", "envelopes", "said", "heartbeat", "echo")


class World:
    """A hub with a task of its own for each site, and a caller that signs for anyone."""

    def __init__(self, place, **limits) -> None:
        self.place = place
        self.centre = Centre(folder=place / "centre")
        self.centre.admit(*SITES)
        self.centre.offer()
        self.desk = self.centre.desk
        self.running = Running(
            place=place, site_ids=SITES, limits=Limits(**limits), office=Office(self.desk)
        )
        self.http = httpx.Client(
            base_url=self.running.url,
            verify=ssl.create_default_context(cafile=str(self.running.ca)),
        )
        self.signers = {}
        for site_id in SITES:
            path = place / f"model of {site_id}"
            path.write_bytes(self.model(site_id))
            self.running.backend.enqueue([self.task(site_id)], blob=path)

    def model(self, site_id) -> bytes:
        return MODEL + site_id.encode()

    def nonce(self, site_id) -> str:
        return digest(site_id.encode())

    def task(self, site_id) -> OpenTask:
        return OpenTask(
            run_id=f"run-{site_id}",
            site_id=site_id,
            nonce=self.nonce(site_id),
            envelope=b"for " + site_id.encode(),
            blob=digest(self.model(site_id)),
            upload_bytes=len(DATA),
        )

    def statement(self, site_id, *, nonce=None, key=None, content=b"done") -> bytes:
        reply = Reply(kind="update", nonce=nonce or self.nonce(site_id), content=content)
        return reply.signed(key or self.running.signing_key(site_id))

    def header(self, site_id, method, path, query="", *, content=b"", key=None) -> str:
        name = site_id if key is None else f"{site_id} with another key"
        if name not in self.signers:
            challenge = self.http.get("/v1/challenge").json()["challenge"]
            self.signers[name] = Signer(key or self.running.request_key(site_id), challenge)
        signer = self.signers[name]
        sha256 = hashlib.sha256(content).hexdigest()
        question = Question(method=method, path=path, query=query)
        return signer.header(question, content_sha256=sha256)

    def call(self, site_id, method, path, query="", *, content=b"", key=None, **headers):
        header = self.header(site_id, method, path, query, content=content, key=key)
        url = f"{path}?{query}" if query else path
        return self.http.request(method, url, content=content, headers={HEADER: header, **headers})

    def chunk(self, site_id, index, data=DATA, *, name=None):
        piece = data[index * MIN_CHUNK_BYTES : (index + 1) * MIN_CHUNK_BYTES]
        path = f"/v1/uploads/{name or digest(data)}/chunks/{index}"
        query = f"total={len(data)}&size={MIN_CHUNK_BYTES}"
        return self.call(site_id, "PUT", path, query, content=piece)

    def stop(self) -> None:
        self.http.close()
        self.running.stop()


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path, unsigned_per_s=1e6, unsigned_burst=1e6, beats_per_s=1e6)
    yield world
    world.stop()


def routes(world, owner):
    """Return every route, asked for what belongs to one site."""
    upload = f"/v1/uploads/{digest(DATA)}"
    query = f"total={len(DATA)}&size={MIN_CHUNK_BYTES}"
    return {
        "tasks": ("GET", "/v1/tasks", "after=0&wait=0", b""),
        "blob": ("GET", f"/v1/blobs/{digest(world.model(owner))}", "", b""),
        "upload": ("GET", upload, "", b""),
        "chunk": ("PUT", f"{upload}/chunks/0", query, DATA[:MIN_CHUNK_BYTES]),
        "complete": ("POST", f"{upload}/complete", "", world.statement(owner)),
        "envelopes": ("POST", "/v1/envelopes", "", world.statement(owner)),
        "members": ("GET", "/v1/members", "after=0", b""),
        "plans": ("GET", "/v1/plans", "", b""),
        "said": ("POST", "/v1/said", "", world.centre.approval(owner)),
        "heartbeat": ("POST", "/v1/heartbeat", "", BEAT),
        "standing": ("GET", "/v1/standing", "", b""),
        "echo": ("POST", "/v1/echo", "", b"hello" * 1000),
        "echo_back": ("POST", "/v1/echo", "size=70000", b""),
    }


def test_every_route_is_tried(world):
    paths = {route.path for route in world.running.hub.api.routes}
    tried = {path.split("?")[0] for _, path, _, _ in routes(world, "site-1").values()}
    unsigned = {"/v1/challenge", "/v1/enrolments"}
    for path in paths - unsigned:
        pieces = path.split("{")
        assert any(one.startswith(pieces[0]) for one in tried), path
    assert len(paths - unsigned) == len(ROUTES) - 1  # an echo is asked for in two ways


def test_a_site_does_its_own_things(world):
    [task] = world.call("site-1", "GET", "/v1/tasks", "after=0&wait=0").json()["tasks"]
    assert task["envelope"] == "for site-1" and task["n"] > 0
    blob = f"/v1/blobs/{digest(world.model('site-1'))}"
    assert world.call("site-1", "GET", blob).content == world.model("site-1")
    part = world.call("site-1", "GET", blob, range="bytes=10-19")
    assert part.status_code == 206 and part.content == world.model("site-1")[10:20]
    assert world.call("site-1", "GET", blob, range="bytes=99999-").status_code == 416
    assert [world.chunk("site-1", index).status_code for index in (1, 0, 0)] == [200] * 3
    upload = f"/v1/uploads/{digest(DATA)}"
    assert world.call("site-1", "GET", upload).json()["chunks"] == [[0, 1]]
    statement = world.statement("site-1")
    done = world.call("site-1", "POST", f"{upload}/complete", content=statement)
    assert done.status_code == 200
    receipt = Receipt.opened(
        done.content, key=world.running.key.public, site_id="site-1", statement=statement
    )
    assert receipt.index > 0
    again = world.call("site-1", "POST", f"{upload}/complete", content=statement)
    assert again.content == done.content
    assert world.call("site-1", "GET", "/v1/tasks", "after=0&wait=0").status_code == 204


def test_a_poll_after_the_last_number_brings_no_task_though_one_is_open(world):
    assert world.call("site-1", "GET", "/v1/tasks", "after=99&wait=0").status_code == 200
    query = f"after={NO_TASK}&wait=0"
    assert world.call("site-1", "GET", "/v1/tasks", query).status_code == 204


def of_the_owner(world, owner):
    """Return all that there is of one site, at the hub and at the desk."""
    return (
        world.running.backend.chunks(owner, digest(DATA)),
        [task.site_id for task in world.running.backend.tasks(owner, after=0)],
        world.desk.last_word(owner, world.desk.plan_digests()[0]),
        world.desk.beats().get(owner),
        world.call(owner, "GET", "/v1/standing").json(),
    )


@pytest.mark.parametrize("route", ROUTES)
def test_nobody_reads_fills_blocks_or_acknowledges_what_is_anothers(world, route):
    for owner, other in ((a, b) for a in SITES for b in SITES if a != b):
        world.chunk(owner, 0)
        before = of_the_owner(world, owner)
        method, path, query, content = routes(world, owner)[route]
        response = world.call(other, method, path, query, content=content)
        if route in ("tasks", "standing", "heartbeat"):
            assert response.status_code == 200 and owner not in response.text
        elif route == "blob":
            assert response.status_code == 404
            unknown = world.call(other, "GET", f"/v1/blobs/{'0' * 64}")
            assert (unknown.status_code, unknown.json()) == (404, response.json())
        elif route in ("complete", "envelopes"):
            assert response.status_code == 400  # its statement is not signed by the caller
            own_key = world.statement(owner, key=world.running.signing_key(other))
            foreign = world.call(other, "POST", "/v1/envelopes", content=own_key)
            missing = world.statement(other, nonce="0" * 64)
            unknown = world.call(other, "POST", "/v1/envelopes", content=missing)
            assert (foreign.status_code, foreign.json()) == (404, unknown.json())
        elif route == "said":
            assert response.status_code == 400
            posing = world.centre.approval(owner, key=world.running.signing_key(other))
            assert world.call(other, "POST", path, content=posing).status_code == 403
        assert of_the_owner(world, owner) == before


@pytest.mark.parametrize("route", ROUTES)
def test_replayed_unsigned_and_wrongly_signed_requests_are_401(world, route):
    method, path, query, content = routes(world, "site-1")[route]
    url = f"{path}?{query}" if query else path
    header = world.header("site-1", method, path, query, content=content)
    stranger = world.header("", method, path, query, content=content, key=SigningKey.generate())
    assert world.http.request(
        method, url, content=content, headers={HEADER: header}
    ).is_success or (route in ("upload", "complete"))
    for headers in ({HEADER: header}, {}, {HEADER: "x"}, {HEADER: stranger}):
        response = world.http.request(method, url, content=content, headers=headers)
        assert response.status_code == 401
        assert set(response.json()) == {"ok", "code", "reason", "error"}


@pytest.mark.parametrize("route", WITH_BODY)
def test_a_body_that_was_not_signed_is_401_and_changes_nothing(world, route):
    method, path, query, content = routes(world, "site-1")[route]
    header = world.header("site-1", method, path, query, content=content)
    url = f"{path}?{query}" if query else path
    other = content[:-1] + b"!"
    response = world.http.request(method, url, content=other, headers={HEADER: header})
    assert response.status_code == 401
    assert world.running.backend.chunks("site-1", digest(DATA)) is None
    assert len(world.running.backend.tasks("site-1", after=0)) == 1
    assert not world.desk.beats() and not world.desk.said(world.desk.plan_digests()[0])


@pytest.mark.parametrize("route", ROUTES)
def test_a_site_that_is_cut_off_or_revoked_is_refused_at_once(world, route):
    for site_id, act in (
        ("site-1", lambda: world.desk.cut_off("site-1", now=world.centre.now)),
        ("site-2", lambda: world.centre.revoke("site-2")),
    ):
        method, path, query, content = routes(world, site_id)[route]
        assert world.call(site_id, method, path, query, content=content).status_code != 401
        act()
        assert world.call(site_id, method, path, query, content=content).status_code == 401


def test_a_site_that_waits_for_a_task_when_it_is_revoked_gets_none(world):
    with ThreadPoolExecutor(1) as threads:
        path = "/v1/tasks"
        [there] = world.running.backend.tasks("site-1", after=0)
        query = f"after={there.n}&wait=20"
        polling = threads.submit(world.call, "site-1", "GET", path, query)
        time.sleep(0.2)
        world.centre.revoke("site-1")
        world.running.backend.enqueue(
            [replace(world.task("site-1"), nonce="f" * 64)], blob=world.place / "model of site-1"
        )
        assert polling.result(timeout=10).status_code == 401


def test_a_chunk_or_blob_is_answered_alike_whether_the_framework_sees_the_request_or_not(world):
    plain = f"total={len(DATA)}&size={MIN_CHUNK_BYTES}"
    turned = f"size={MIN_CHUNK_BYTES}&total={len(DATA)}"
    pieces = [DATA[:MIN_CHUNK_BYTES], DATA[:10], DATA[: MIN_CHUNK_BYTES - 1] + b"y"]
    path = f"/v1/uploads/{digest(DATA)}/chunks"
    for query, index, piece, status in (
        (plain, 0, pieces[0], 200),
        (plain, 0, pieces[1], 400),
        (plain, 0, pieces[2], 409),
        (plain, 7, pieces[0], 400),
        ("total=1099511627776&size=65536", 0, pieces[0], 413),
    ):
        other = turned if query == plain else "size=65536&total=1099511627776"
        found = [
            world.call("site-1", "PUT", f"{path}/{index}", sent, content=piece)
            for sent in (query, other)
        ]
        assert [answer.status_code for answer in found] == [status, status]
        assert found[0].content == found[1].content
    for query in (f"total={len(DATA)}", f"{plain}x", "total=-1&size=65536"):
        answer = world.call("site-1", "PUT", f"{path}/0", query, content=pieces[0])
        assert answer.status_code == 404
    for name, status in ((digest(world.model("site-2")), 404), ("0" * 63, 404)):
        assert world.call("site-1", "GET", f"/v1/blobs/{name}").status_code == status


def test_other_bytes_for_a_chunk_or_a_seat_are_409_and_noted(world):
    assert world.chunk("site-1", 0).status_code == 200
    other = world.chunk("site-1", 0, b"y" * len(DATA), name=digest(DATA))
    assert other.status_code == 409
    first = world.statement("site-1")
    assert world.call("site-1", "POST", "/v1/envelopes", content=first).status_code == 200
    second = world.statement("site-1", content=b"else")
    assert world.call("site-1", "POST", "/v1/envelopes", content=second).status_code == 409
    assert len(world.running.backend.conflicts("site-1")) == 2


def test_a_file_of_another_digest_gets_no_receipt_ever(world):
    name = "d" * 64
    for index in (0, 1):
        assert world.chunk("site-1", index, name=name).status_code == 200
    for _ in range(2):
        response = world.call(
            "site-1", "POST", f"/v1/uploads/{name}/complete", content=world.statement("site-1")
        )
        assert response.status_code == 422 and response.json()["reason"] == "blob_digest"


def test_too_much_is_refused_before_it_is_read(world):
    large = "total=99999999999&size=1048576"
    path = f"/v1/uploads/{digest(DATA)}/chunks/0"
    assert world.call("site-1", "PUT", path, large, content=b"x").status_code == 413
    assert world.call("site-1", "GET", "/v1/tasks", "a=" + "x" * 600).status_code == 431
    header = world.header("site-1", "POST", "/v1/envelopes")
    context = ssl.create_default_context(cafile=str(world.running.ca))
    with (
        socket.create_connection(("127.0.0.1", world.running.port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as line,
    ):
        head = f"POST /v1/envelopes HTTP/1.1\r\nhost: x\r\ncontent-length: {1 << 40}\r\n"
        line.sendall(f"{head}{HEADER}: {header}\r\n\r\n".encode())
        assert line.recv(100).startswith(b"HTTP/1.1 413")
    chunked = world.http.post("/v1/envelopes", headers={HEADER: header}, content=iter([b"x"]))
    assert chunked.status_code == 411
    for route, most in (("said", 64 << 10), ("heartbeat", 64 << 10), ("echo", 8 << 20)):
        path = f"/v1/{route}"
        assert world.call("site-1", "POST", path, content=b"x" * (most + 1)).status_code == 413
    large = b"x" * ((64 << 10) + 1)
    assert world.http.post("/v1/enrolments", content=large).status_code == 413


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"), ("GET", "/docs"), ("GET", "/openapi.json"), ("DELETE", "/v1/tasks"),
        ("GET", "/v1/blobs/..%2f..%2fhub.sqlite"), ("GET", "/v1/uploads/x"),
        ("PUT", "/v1/uploads/x/chunks/nan"),
    ],
)  # fmt: skip
def test_what_is_no_route_is_not_there(world, method, path):
    assert world.http.request(method, path).status_code == 401
    response = world.call("site-1", method, path)
    assert response.status_code in (404, 405) and response.json()["reason"] == "not_found"


def test_a_flood_of_one_site_is_429_and_does_not_stop_another(tmp_path):
    world = World(tmp_path, requests_per_s=1.0, burst=20.0, unsigned_burst=1e6)
    try:
        codes = [world.call("site-1", "GET", "/v1/tasks", "after=9&wait=0") for _ in range(40)]
        refused = [response for response in codes if response.status_code == 429]
        assert len(refused) >= 10 and all(int(r.headers["retry-after"]) >= 1 for r in refused)
        assert world.call("site-2", "GET", "/v1/tasks", "after=0&wait=0").status_code == 200
    finally:
        world.stop()


def test_a_flood_that_nobody_signed_is_429_and_signed_requests_pass(tmp_path):
    world = World(tmp_path, unsigned_per_s=0.1, unsigned_burst=20.0)
    try:
        world.call("site-1", "GET", "/v1/tasks", "after=0&wait=0")
        signer = world.signers["site-1"]
        codes = {world.http.get("/v1/tasks").status_code for _ in range(40)}
        assert codes == {401, 429}
        question = Question(method="GET", path="/v1/tasks", query="after=0&wait=0")
        header = signer.header(question, content_sha256=digest(b""))
        response = world.http.get("/v1/tasks?after=0&wait=0", headers={HEADER: header})
        assert response.status_code == 200
    finally:
        world.stop()

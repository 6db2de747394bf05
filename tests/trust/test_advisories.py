"""Other people's advisories, a test for each class of fault, on our own code: NVIDIA FLARE.

The rows are those of the regression list of the project's specification of trust, in its order.
"""

import ast
import asyncio
import base64
import io
import json
import os
import re
import struct
from dataclasses import replace

import numpy as np
import pytest
from desks import key_of
from honest import honest_update
from own_code import imported, trees
from runs import create, go_on, sites_by_name, small_plan
from samples import (
    PARAMS,
    REFUSED,
    SIGNING,
    SITE,
    TASK,
    UPDATE,
    is_clear,
)

from hospitium.engines.hub import hearing
from hospitium.engines.hub.local import LocalBackend
from hospitium.engines.hub.messages import Ask, Reply
from hospitium.engines.hub.requests import Member, Question, Signer, Verifier
from hospitium.engines.worker_process import MAX_FRAME_BYTES, _receive
from hospitium.errors import (
    CorruptedError,
    HubError,
    KeyFileError,
    PlanError,
    PolicyError,
    StateConflictError,
    TrustError,
    UpdateError,
)
from hospitium.plan.reading import parse_plan
from hospitium.site.keys import make_key, read_key
from hospitium.site.policy import parse_policy
from hospitium.state.hub_store import OpenTask
from hospitium.state.ledger import RunLedger
from hospitium.testing.fakes import least_squares_sites
from hospitium.types import Seat
from hospitium.wire import blob
from hospitium.wire.canonical import canonical_json, digest
from hospitium.wire.envelope import decode_update, encode_update
from hospitium.wire.gate import check_update
from hospitium.wire.sealing import RunKey, open_sealed, seal
from hospitium.wire.signing import MAX_DSSE_BYTES, SigningKey, dsse_sign, dsse_verify
from hospitium.wire.statement import is_id


def test_allocation_before_login(hub):
    """CVE-2022-21822: no byte of a body is read before the signature; sizes come first."""
    for length, expected in ((b"1000", 401), (b"99999999999", 413)):
        assert _status_without_a_body(hub, length) == expected


def _status_without_a_body(hub, length):
    """Ask without a signature; the body would end the test."""
    seen = []

    async def receive():
        raise AssertionError("a byte of the body was asked for")

    async def send(message):
        seen.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/v1/said", "raw_path": b"/v1/said",
        "query_string": b"", "headers": [(b"content-length", length)], "client": ("10.0.0.9", 1),
    }  # fmt: skip
    asyncio.run(hub.app(scope, receive, send))
    return seen[0]["status"]


YAML = "model: !!python/object/apply:os.system ['touch /tmp/x']"


@pytest.mark.parametrize("text", [YAML, "[model]\nname = !!python/name:os.system", "\x80\x04cos\n"])
def test_unsafe_deserialisation(text):
    """CVE-2022-31604, -31605: a plan and a policy are TOML, read into closed sections."""
    with pytest.raises(PlanError):
        parse_plan(text)
    with pytest.raises(PolicyError):
        parse_policy(text)
    assert not imported() & {"yaml", "ruamel.yaml", "pickle", "marshal"}


class Canary:
    made = 0

    def __init__(self, *_args, **_named):
        Canary.made += 1


def test_no_class_name_reaches_a_constructor(honest):
    """CVE-2022-34668, CVE-2026-24186: pickles, and a codec that named what it would make."""
    name = f"{Canary.__module__}.{Canary.__qualname__}"
    tags = ("__class__", "__type__", "$type", "py/object", "__fobs_type__", "@type", "__reduce__")
    for kind, sample in honest.items():
        if kind == "asking":  # an entry of a log, of which one may have more fields
            continue
        for tag in tags:
            for data in _named(sample.data, tag, name):
                with pytest.raises(REFUSED) as caught:
                    sample.read(data)
                assert is_clear(caught.value), kind
    assert Canary.made == 0


def _named(data, tag, name):
    yield b"\x80\x04\x95c" + name.replace(".", "\n").encode() + b"\n)R."
    if data.startswith(b"{"):
        yield canonical_json({**json.loads(data), tag: name})
        yield canonical_json({tag: name, "args": ["x"]})


def test_object_access_by_a_supplied_id(hub, tmp_path):
    """CVE-2026-24178: what is another's and what does not exist are answered alike."""
    path = tmp_path / "model"
    path.write_bytes(b"model")
    task = OpenTask(
        run_id="r", site_id="oslo", nonce="a" * 64, envelope=b"t", blob=digest(b"model"),
        upload_bytes=1 << 20,
    )  # fmt: skip
    hub.backend.enqueue([task], blob=path)
    own = hub.asking.signed(key_of("oslo request"), "GET", f"/v1/blobs/{task.blob}")
    others = [
        hub.asking.signed(key_of("turin request"), "GET", f"/v1/blobs/{name}")
        for name in (task.blob, "0" * 64)
    ]
    assert own.content == b"model"
    assert [(one.status_code, one.json()) for one in others] == [(404, others[1].json())] * 2


MAKES_AN_ERROR = re.compile(r"(Error|^_?refused|^unreadable|^not_found|^too_busy|^_?corrupted)$")


def errors_not_raised(tree):
    """Return the lines on which an error is made and then dropped."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and MAKES_AN_ERROR.search(node.value.func.id)
    ]


def test_an_error_that_is_made_is_raised():
    """NVFlare#4429: an error was built and not returned, and the caller went on."""
    planted = "def f(x):\n    if x:\n        UpdateError('signature', 'no')\n    return x"
    assert errors_not_raised(ast.parse(planted)) == [3]
    assert {path.name: found for path, tree in trees() if (found := errors_not_raised(tree))} == {}


@pytest.mark.parametrize("header", ["", "x", "e30=", base64.b64encode(b"{}").decode()])
def test_a_token_that_does_not_verify_ends_the_request(hub, header):
    """NVFlare#4430: every route but the two open ones is behind the one check."""
    for route in hub.api.routes:
        if route.path in ("/v1/challenge", "/v1/enrolments"):
            continue
        path = route.path.replace("{sha256}", "0" * 64).replace("{upload_id}", "0" * 64)
        for method in route.methods:
            answer = hub.asking.plain(
                method, path.replace("{index}", "0"), headers={"hospitium-request": header}
            )
            assert answer.status_code == 401, (method, route.path)


def test_a_peer_does_not_report_for_another():
    """NVFlare#4432: what a statement says about its sender is compared with who signed."""
    reply = Reply(kind="update", nonce="a" * 64, content=b"").signed(key_of("turin signing"))
    with pytest.raises(UpdateError, match="unknown key"):
        Reply.opened(reply, key=key_of("oslo signing").public)
    with pytest.raises(UpdateError) as caught:
        check_update(
            replace(UPDATE, site_id="turin"), task=TASK, seat=Seat(site_id=SITE, num_cases=100),
            manifest=blob.manifest_of(PARAMS),
        )  # fmt: skip
    assert caught.value.reason == "members"


@pytest.mark.parametrize(("num_cases", "value"), [(-5, 0.0), (0, 0.0), (8, np.nan), (8, np.inf)])
def test_empty_nonce_negative_weight_and_nan(num_cases, value):
    """NVFlare#4422."""
    with pytest.raises(UpdateError):
        Reply.opened(
            Reply(kind="update", nonce="", content=b"").signed(SIGNING), key=SIGNING.public
        )
    update, task, algorithm = honest_update()
    w = np.append(update.delta["w"][:-1], np.float32(value))
    aggregate = algorithm.aggregate(task)
    with pytest.raises(UpdateError) as caught:
        aggregate.add(replace(update, num_cases=num_cases, delta={**update.delta, "w": w}))
    assert caught.value.reason in ("weight", "non_finite") and aggregate.num_sites == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has access lists, not modes")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o620])
def test_keys_that_the_world_can_read(tmp_path, mode):
    """NVFlare#4431."""
    path = tmp_path / "keys" / "site.key"
    make_key(path, purpose="site-signing", federation="north")
    path.chmod(mode)
    with pytest.raises(KeyFileError):
        read_key(path, purpose="site-signing", federation="north")


def test_secrets_in_words_and_errors(tmp_path):
    """NVFlare#4932: no text form, and no error, shows a byte of a key."""
    seed = b"canary-secret-of-thirty-two-byte"
    shown = [repr(SigningKey.from_bytes(seed)), repr(RunKey.from_bytes(seed))]
    path = tmp_path / "k"
    path.write_bytes(seed)
    path.chmod(0o600)
    for work in (
        lambda: SigningKey.from_bytes(seed[:-1]),
        lambda: RunKey.from_bytes(seed[:-1]),
        lambda: read_key(path, purpose="officer", federation="north"),
    ):
        with pytest.raises((UpdateError, KeyFileError)) as caught:
            work()
        shown += [str(caught.value), repr(caught.value), repr(caught.value.__cause__)]
    for text in shown:
        assert "canary" not in text and seed.hex()[:16] not in text
        assert base64.b64encode(seed).decode()[:16] not in text


def test_a_token_bound_to_nothing():
    """NVFlare#4597, #5079: a signature holds for one request at one hub, and names the caller."""
    members = {
        "oslo": Member(request_key=key_of("oslo").public, signing_key=key_of("other").public)
    }
    here, there = Verifier(members), Verifier(members)
    question = Question(method="POST", path="/v1/said")
    signer = Signer(key_of("oslo"), here.challenge())

    def header():
        return signer.header(question, content_sha256=digest(b"body"))

    caller = here.admit(header(), question)
    assert (caller.site_id, caller.content_sha256) == ("oslo", digest(b"body"))
    for verifier, asked in (
        (there, question),
        (here, replace(question, path="/v1/plans")),
        (here, replace(question, method="GET")),
        (here, replace(question, query="site_id=turin")),
    ):
        with pytest.raises(HubError):
            verifier.admit(header(), asked)


def test_a_role_that_a_server_sent(honest):
    """NVFlare#4819, #4956: roles and rules are read from the site's own policy, nowhere else."""
    standing = json.loads(honest["hub: standing"].data)
    with pytest.raises(HubError):
        hearing.table(canonical_json({**standing, "role": "admin"}), hearing.STANDING)
    ask = json.loads(base64.b64decode(json.loads(honest["ask"].data)["payload"]))
    envelope = dsse_sign(
        "application/vnd.hospitium.task+json",
        canonical_json({**ask, "role": "admin", "policy": {"min_sites": 1}}),
        key_of("coordinator"),
    )
    with pytest.raises(UpdateError, match="fields"):
        Ask.opened(envelope, key=key_of("coordinator").public, site_id=SITE)


PATHS = (
    "../x", "..", ".", "/etc/passwd", "a/../../b", "a\\b", "C:\\x", "con", "nul", "com1", "a\x00b",
    "~root", "a b", "%2e%2e", "\u2025", "A", "", "-a", "x" * 41, ".hidden", "a\n", "\uff0e\uff0e",
)  # fmt: skip


@pytest.mark.parametrize("name", PATHS)
def test_names_that_become_paths(name):
    """NVFlare#4879, #4509, #4573: a name is of a closed form; content is stored by its digest."""
    assert not is_id(name)
    with pytest.raises((UpdateError, TrustError)):
        decode_update(_with(encode_update(UPDATE, blob_digest=""), site_id=f"{name}/"))
    with pytest.raises(UpdateError):
        decode_update(_with(encode_update(UPDATE, blob_digest=""), blob=name or "0"))
    with pytest.raises(AssertionError):
        LocalBackend._blob(object.__new__(LocalBackend), name)


def _with(envelope, **fields):
    return canonical_json({**json.loads(envelope), **fields})


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_are_not_followed(tmp_path):
    """NVFlare#4879: the signed folder that led elsewhere; here a key that is a link is refused."""
    real = tmp_path / "real"
    make_key(real, purpose="site-signing", federation="north")
    (tmp_path / "link").symlink_to(real)
    with pytest.raises(KeyFileError):
        read_key(tmp_path / "link", purpose="site-signing", federation="north")


def test_encryption_without_a_mac():
    """NVFlare#5158: each byte of a sealed file and of its statement is bound."""
    key, envelope = RunKey.from_bytes(b"k" * 32), b"what it is for"
    out = io.BytesIO()
    seal(io.BytesIO(b"a change"), out, run_key=key.public, binding=digest(envelope))
    whole = out.getvalue()
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 0x10
        with pytest.raises(UpdateError):
            open_sealed(io.BytesIO(bytes(changed)), key=key, binding=digest(envelope))


def test_oversize_found_late_and_frames_of_any_length(tmp_path):
    """NVFlare#5068, #4687: every length is looked at before anything of that size is read."""
    for length in (MAX_FRAME_BYTES + 1, (1 << 63) - 1):
        with pytest.raises(EOFError):
            _receive(Unreadable(struct.pack("!Q", length)))
    with pytest.raises(UpdateError) as caught:
        dsse_verify(b"[" * (MAX_DSSE_BYTES + 1), {}, payload_type="a/b")
    assert caught.value.reason == "size"
    path = tmp_path / "file"
    for length in (1 << 62, 1 << 40, 1 << 21):
        path.write_bytes(length.to_bytes(8, "little") + b"{}")
        with pytest.raises(CorruptedError):
            blob.read(path)


class Unreadable(io.BytesIO):
    """A pipe of which no more than a frame's head may be read."""

    def read(self, size=-1):
        assert 0 < size <= 8, "more was read than a length"
        return super().read(size)


def test_a_partial_add():
    """NVFlare#5293: an update that is refused in its last array leaves no trace of its first."""
    update, task, algorithm = honest_update()
    other = least_squares_sites()[1](task)
    alone, after = algorithm.aggregate(task), algorithm.aggregate(task)
    alone.add(other)
    spoilt = np.append(update.delta["w"][:-1], np.float32(np.nan))
    with pytest.raises(UpdateError):
        after.add(replace(update, delta={**update.delta, "w": spoilt}))
    after.add(other)
    found = [algorithm.step(algorithm.init(), one.result()).params for one in (alone, after)]
    assert blob.digest_of(found[0]) == blob.digest_of(found[1])


def test_an_end_that_is_overwritten(tmp_path):
    """NVFlare#5300, #5301: a run that has ended stays so, whoever asks."""
    create(tmp_path, small_plan(rounds=1))
    _, record = go_on(tmp_path, sites_by_name())
    ledger = RunLedger(tmp_path)
    try:
        assert ledger.is_finished
        task = honest_update()[1]
        with pytest.raises(StateConflictError):
            ledger.opened(replace(task, run_id="r", round_number=2), ["site-1"])
        assert {**ledger.record(), "blobs": ()} == {**record, "blobs": ()}
    finally:
        ledger.close()

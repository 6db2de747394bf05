"""What the engine tells sites with a task, and what it makes of sealed files; over a real backend.

That it keeps the contract of all engines is tested in ``tests/contract``.
"""

import io
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hospitium.engines.hub.engine import HubEngine
from hospitium.engines.hub.local import LocalBackend
from hospitium.engines.hub.messages import Ask, Reply
from hospitium.errors import CorruptedError
from hospitium.state.hub_store import StoredAnswer
from hospitium.state.store import Store
from hospitium.state.unfinished import MIN_CHUNK_BYTES, Shape
from hospitium.types import LeftOut, Task, Update
from hospitium.wire import blob
from hospitium.wire.canonical import digest
from hospitium.wire.envelope import binding_of, decode_update, encode_update
from hospitium.wire.sealing import RunKey, seal, sealed_bytes
from hospitium.wire.signing import SigningKey

COORDINATOR = SigningKey.from_bytes(b"c" * 32)
KEY, OTHER_KEY = RunKey.from_bytes(b"k" * 32), RunKey.from_bytes(b"o" * 32)
SITES = ("bergen", "oslo", "turin")
PARAMS = {"w": np.arange(5, dtype=np.float32)}
DELTA = {"w": np.full(5, 0.25, np.float32)}
TASK = Task(
    run_id="r",
    round_number=1,
    plan_digest="0" * 64,
    params=PARAMS,
    base_digest=blob.digest_of(PARAMS),
    max_norm=10.0,
)


def signing(site_id):
    return SigningKey.from_bytes(site_id.encode().ljust(32, b"."))


@dataclass
class Desk:
    """A coordinator's engine and backend in a folder; sites hand in by calling `hand_in`."""

    place: Path
    run_key: RunKey | None = KEY
    members_digest: str = "3" * 64
    sites: list[str] = field(default_factory=lambda: list(SITES))

    def __post_init__(self):
        self.backend = LocalBackend(self.place / "hub")
        self.members = {s: SimpleNamespace(signing_key=signing(s).public) for s in SITES}
        self.store = Store(self.place / "store")
        self.engine = HubEngine(
            self.backend,
            members=self.members,
            key=COORDINATOR,
            store=self.store,
            on_close=self.backend.close,
            sites=lambda: self.sites,
            members_digest=lambda: self.members_digest,
            run_key=self.run_key,
        )

    def put(self, site_ids=SITES, task=TASK):
        """Put a task, wait for nothing; return what each site is asked."""
        answers = self.engine.ask(task, site_ids, deadline_s=0.01)
        assert {type(answer) for answer in answers} <= {LeftOut}
        return {
            row.site_id: Ask.opened(row.envelope, key=COORDINATOR.public, site_id=row.site_id)
            for row in self.rows
        }

    def hand_in(self, site_id, *, file, reply):
        """Do what the hub does with an upload and its statement."""
        found = ""
        if file is not None:
            shape = Shape(total_bytes=len(file), chunk_bytes=MIN_CHUNK_BYTES)
            self.backend.put_chunk(
                site_id, digest(file), shape, 0, [file], sha256=bytes.fromhex(digest(file))
            )
            found = self.backend.finish_upload(site_id, digest(file))
        statement = reply.signed(signing(site_id))
        return self.backend.answer(
            StoredAnswer(
                run_id="r",
                site_id=site_id,
                nonce=reply.nonce,
                kind=reply.kind,
                statement=statement,
                sha256=digest(statement),
                found=found,
            )
        )

    def answer_of(self, site_id="oslo", *, deadline_s=5.0):
        (answer,) = self.engine.ask(TASK, [site_id], deadline_s=deadline_s)
        return answer


@pytest.fixture
def start(tmp_path, monkeypatch):
    desks = []

    def start(**options):
        desks.append(Desk(tmp_path, **options))
        desk, put = desks[-1], LocalBackend.enqueue

        def enqueue(self, tasks, *, blob):
            desk.rows = list(tasks)
            put(self, tasks, blob=blob)

        monkeypatch.setattr(LocalBackend, "enqueue", enqueue)
        return desk

    yield start
    for desk in desks:
        desk.engine.close()


def envelope_of(site_id="oslo", *, delta=DELTA, round_number=1):
    update = Update(
        run_id="r",
        round_number=round_number,
        site_id=site_id,
        plan_digest=TASK.plan_digest,
        base_digest=TASK.base_digest,
        num_cases=7,
        delta={},
    )
    return encode_update(update, blob_digest=blob.digest_of(delta))


def plain_of(delta=DELTA):
    return b"".join(blob.blocks_of(delta))


def sealed_of(content=None, *, key=KEY, envelope=None):
    target = io.BytesIO()
    seal(
        io.BytesIO(plain_of() if content is None else content),
        target,
        run_key=key.public,
        binding=binding_of(decode_update(envelope or envelope_of())[0]),
    )
    return target.getvalue()


def reply_of(ask, file, *, envelope=None, is_sealed=True):
    return Reply(
        kind="update",
        nonce=ask.nonce,
        content=envelope or envelope_of(),
        sealed=digest(file) if is_sealed else "",
    )


def test_each_site_hears_of_the_list_the_number_of_sites_and_the_key(start):
    asks = start().put()
    for site_id in SITES:
        ask = asks[site_id]
        assert (ask.members_digest, ask.num_sites, ask.run_key) == ("3" * 64, 3, KEY.public)


def test_the_size_of_an_upload_is_that_of_the_sealed_file(start, tmp_path):
    desk = start()
    desk.put()
    assert {row.upload_bytes for row in desk.rows} == {sealed_bytes(len(plain_of()))}
    desk.put(task=replace(TASK, purpose="score"))
    assert {row.upload_bytes for row in desk.rows} == {0}


def test_without_a_run_key_nothing_is_sealed(start):
    desk = start(run_key=None)
    assert desk.put()["oslo"].run_key == ""
    assert {row.upload_bytes for row in desk.rows} == {len(plain_of())}


def test_the_sites_of_a_run_are_those_that_are_members_too(start):
    desk = start()
    desk.sites = ["turin", "oslo", "madrid"]
    assert desk.engine.select(round_number=1) == ["oslo", "turin"]
    del desk.members["turin"]
    assert desk.engine.select(round_number=2) == ["oslo"]


def test_a_resumed_round_tells_how_many_sites_were_chosen_not_how_many_are_left(start):
    desk = start()
    desk.engine.select(round_number=1)
    assert desk.put(["turin"])["turin"].num_sites == 3
    assert desk.put(["turin"], task=replace(TASK, round_number=2))["turin"].num_sites == 1


def test_the_list_in_force_is_looked_up_at_each_task(start):
    desk = start()
    desk.put()
    desk.members_digest = "4" * 64
    assert desk.put()["oslo"].members_digest == "4" * 64


def test_a_sealed_update_is_opened_and_its_sealed_file_stays(start):
    desk = start()
    file = sealed_of()
    stored = desk.hand_in("oslo", file=file, reply=reply_of(desk.put()["oslo"], file))
    update = desk.answer_of()
    assert isinstance(update, Update) and update.num_cases == 7
    np.testing.assert_array_equal(update.delta["w"], DELTA["w"], strict=True)
    assert Path(update.path).parent.parent == desk.store.incoming
    assert Path(update.path).name.startswith(blob.digest_of(DELTA))
    assert Path(update.path).read_bytes() == desk.backend.received(stored).read_bytes() == file


def test_what_was_in_a_sealed_update_is_on_no_disk_and_still_read_again(start):
    desk = start()
    file = sealed_of()
    desk.hand_in("oslo", file=file, reply=reply_of(desk.put()["oslo"], file))
    update = desk.answer_of()
    desk.store.adopt(Path(update.path), blob.digest_of(DELTA))
    on_disk = [path.read_bytes() for path in desk.place.rglob("*") if path.is_file()]
    assert not [data for data in on_disk if DELTA["w"].tobytes() in data]
    kept = desk.store.get(blob.digest_of(DELTA))
    np.testing.assert_array_equal(kept["w"], DELTA["w"], strict=True)
    assert not kept["w"].flags.writeable and not update.delta["w"].flags.writeable
    desk.store.keep_only(set())
    with pytest.raises(CorruptedError, match="gone"):
        desk.store.get(blob.digest_of(DELTA))


def test_a_kept_update_whose_run_key_is_lost_counts_as_torn(start):
    desk = start()
    file = sealed_of()
    desk.hand_in("oslo", file=file, reply=reply_of(desk.put()["oslo"], file))
    desk.store.adopt(Path(desk.answer_of().path), blob.digest_of(DELTA))
    for key, text in ((OTHER_KEY, "damaged"), (None, "sealed")):
        desk.store.open_with(key)
        with pytest.raises(CorruptedError, match=text):
            desk.store.get(blob.digest_of(DELTA))
    assert desk.store.drop_torn(blob.digest_of(DELTA))
    assert blob.digest_of(DELTA) not in desk.store.digests()


def test_what_became_of_the_second_name_does_not_matter_after_a_crash(start):
    desk = start()
    file = sealed_of()
    desk.hand_in("oslo", file=file, reply=reply_of(desk.put()["oslo"], file))
    Path(desk.answer_of().path).unlink()
    assert Path(desk.answer_of().path).read_bytes() == file


def test_an_update_that_was_moved_in_and_then_torn_is_opened_again(start):
    desk = start()
    file = sealed_of()
    desk.hand_in("oslo", file=file, reply=reply_of(desk.put()["oslo"], file))
    kept = desk.store.adopt(Path(desk.answer_of().path), blob.digest_of(DELTA))
    kept.unlink()
    kept.write_bytes(bytes(100))
    assert desk.store.drop_torn(blob.digest_of(DELTA))
    update = desk.answer_of()
    np.testing.assert_array_equal(update.delta["w"], DELTA["w"], strict=True)


def test_a_site_whose_sealed_file_is_gone_is_asked_again(start):
    desk = start()
    file = sealed_of()
    ask = desk.put()["oslo"]
    stored = desk.hand_in("oslo", file=file, reply=reply_of(ask, file))
    desk.backend.received(stored).unlink()
    assert desk.answer_of(deadline_s=0.6) == LeftOut(site_id="oslo", reason="deadline")
    assert desk.backend.answers(ask.nonce, after=0, wait_s=0) == []


def test_the_last_rounds_files_go_when_the_next_task_is_put(start):
    desk = start()
    file = sealed_of()
    stored = desk.hand_in("oslo", file=file, reply=reply_of(desk.put()["oslo"], file))
    assert isinstance(desk.answer_of(), Update)
    desk.put(task=replace(TASK, round_number=2))
    assert not desk.backend.received(stored).exists()


REFUSED = {
    "not sealed": (lambda: plain_of(), {"is_sealed": False}, "fields"),
    "to another key": (lambda: sealed_of(key=OTHER_KEY), {}, "identity"),
    "of another site": (lambda: sealed_of(envelope=envelope_of("turin")), {}, "identity"),
    "of another round": (
        lambda: sealed_of(envelope=envelope_of(round_number=2)),
        {},
        "identity",
    ),
    "never sealed": (lambda: plain_of(), {}, "header"),
    "empty": (lambda: b"x", {}, "header"),
    "a bit is wrong": (lambda: sealed_of()[:-1] + b"x", {}, "blob_digest"),
    "cut off": (lambda: sealed_of()[:-20], {}, "blob_digest"),
    "another model inside": (lambda: sealed_of(plain_of({"v": DELTA["w"]})), {}, "header"),
    "other values inside": (lambda: sealed_of(plain_of({"w": PARAMS["w"]})), {}, "blob_digest"),
    "nothing inside": (lambda: sealed_of(b""), {}, "header"),
}


@pytest.mark.parametrize(("make", "options", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_is_not_the_sealed_update_is_refused(start, make, options, reason):
    desk = start()
    file = make()
    desk.hand_in("oslo", file=file, reply=reply_of(desk.put()["oslo"], file, **options))
    assert desk.answer_of() == LeftOut(site_id="oslo", reason=reason)
    assert not [path for path in desk.store.incoming.rglob("*") if path.is_file()]


def test_what_was_sealed_to_a_lost_run_key_is_asked_for_again(start):
    desk = start()
    old, file = desk.put()["oslo"], sealed_of()
    desk.hand_in("oslo", file=file, reply=reply_of(old, file))
    desk.engine.close()
    again = start(run_key=OTHER_KEY)
    ask = again.put()["oslo"]
    assert ask.run_key == OTHER_KEY.public and ask.nonce != old.nonce
    assert again.answer_of(deadline_s=0.05) == LeftOut(site_id="oslo", reason="deadline")
    again.put()
    file = sealed_of(key=OTHER_KEY)
    again.hand_in("oslo", file=file, reply=reply_of(ask, file))
    assert isinstance(again.answer_of(), Update)


def test_a_file_that_the_statement_does_not_name_is_refused(start):
    desk = start()
    reply = reply_of(desk.put()["oslo"], sealed_of())
    desk.hand_in("oslo", file=sealed_of(), reply=reply)
    assert desk.answer_of() == LeftOut(site_id="oslo", reason="blob_digest")


def test_a_statement_that_claims_a_seal_nobody_asked_for_is_refused(start):
    desk = start(run_key=None)
    desk.hand_in("oslo", file=plain_of(), reply=reply_of(desk.put()["oslo"], plain_of()))
    assert desk.answer_of() == LeftOut(site_id="oslo", reason="fields")

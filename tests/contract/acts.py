"""What a site may do when it is asked, well or badly; an engine under test runs these at its sites.

An act is a function of a `Scene`. It returns an update, or the very bytes that the site sends.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hospitium.errors import SiteError
from hospitium.types import Params, Task, Update
from hospitium.wire import blob
from hospitium.wire.canonical import canonical_json
from hospitium.wire.envelope import MAX_ENVELOPE_BYTES, encode_update

SECRET = "/data/patients/1.2.840.113619.2.55.3/ANNA^MEIER.dcm"
"""What must never be shown to others."""

LATE_S = 0.8
"""How long a late site takes: more than the deadline of its test, less than two rounds."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A task at a site; ``place`` is a folder that the test and all sites see."""

    task: Task
    site_id: str
    place: Path


@dataclass(frozen=True, kw_only=True)
class Sent:
    """The bytes that leave a site: an envelope, and the file of the change under some digest."""

    envelope: bytes
    digest: str = ""
    file: bytes | None = None


def delta_of(site_id: str, params: Params, round_number: int) -> dict[str, np.ndarray]:
    """Return the change that an honest site answers with."""
    number = int(site_id.split("-")[1])
    return {
        name: np.full(array.shape, number / 64 + round_number / 1024, np.float32)
        for name, array in params.items()
    }


def answer(scene: Scene) -> Update:
    task = scene.task
    return Update(
        run_id=task.run_id,
        round_number=task.round_number,
        site_id=scene.site_id,
        plan_digest=task.plan_digest,
        base_digest=task.base_digest,
        num_cases=10,
        delta=delta_of(scene.site_id, task.params, task.round_number),
        sums={"loss": (10 + task.round_number,)},
        num_steps=3,
    )


def answer_and_tell(scene: Scene) -> Update:
    (scene.place / f"asked-{scene.site_id}-{scene.task.round_number}").touch()
    return answer(scene)


def wait_for_word(scene: Scene) -> Update:
    """Answer only once the test has said so."""
    until = time.monotonic() + 20
    while not (scene.place / "go").exists():
        if time.monotonic() > until:
            raise RuntimeError("the word never came")
        time.sleep(0.01)
    return answer(scene)


def fail(scene: Scene) -> Update:
    raise RuntimeError(f"cannot read {SECRET}")


def fail_in_words(scene: Scene) -> Update:
    raise SiteError("there are no training cases", detail=f"looked for {SECRET}")


def fail_naming_a_patient(scene: Scene) -> Update:
    raise SiteError(f"no cases of {SECRET}")


def hang_in_round_1(scene: Scene) -> Update:
    if scene.task.round_number == 1:
        time.sleep(3600)
    return answer(scene)


def late_in_round_1(scene: Scene) -> Update:
    """Answer after the deadline, at a time when the next round is open."""
    if scene.task.round_number == 1:
        time.sleep(LATE_S)
    return answer(scene)


def slow_in_round_2(scene: Scene) -> Update:
    """Keep round 2 open for as long as a late answer would take to come in."""
    if scene.task.round_number == 2:
        time.sleep(LATE_S)
    return answer(scene)


def exit_in_round_1(scene: Scene) -> Update:
    if scene.task.round_number == 1:
        os._exit(7)
    return answer(scene)


def killed_in_round_1(scene: Scene) -> Update:
    if scene.task.round_number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer(scene)


def _sent(scene: Scene, *, envelope: bytes | None = None, params: Params | None = None) -> Sent:
    """Return what an honest site sends, but for what is given."""
    update = answer(scene)
    blocks = b"".join(blob.blocks_of(update.delta if params is None else params))
    digest = blob.digest_of(update.delta if params is None else params)
    return Sent(
        envelope=encode_update(update, blob_digest=digest) if envelope is None else envelope,
        digest=digest,
        file=blocks,
    )


def send_in_another_name(scene: Scene) -> Sent:
    update = replace(answer(scene), site_id="site-1")
    return _sent(scene, envelope=encode_update(update, blob_digest=_sent(scene).digest))


def send_garbage(scene: Scene) -> Sent:
    return _sent(scene, envelope=b"\x00\xff not an envelope")


def send_too_much(scene: Scene) -> Sent:
    return _sent(scene, envelope=b'"' + b"x" * MAX_ENVELOPE_BYTES + b'"')


def send_deep_nesting(scene: Scene) -> Sent:
    return _sent(scene, envelope=b"[" * 100_000)


def send_with_a_space(scene: Scene) -> Sent:
    return _sent(scene, envelope=_sent(scene).envelope.replace(b":", b": ", 1))


def send_a_further_field(scene: Scene) -> Sent:
    return _sent(scene, envelope=b'{"a":0,' + _sent(scene).envelope[1:])


def send_a_task(scene: Scene) -> Sent:
    return _sent(scene, envelope=canonical_json({"kind": "task"}))


def send_another_shape(scene: Scene) -> Sent:
    return _sent(scene, params={"b": np.zeros(1, np.float32), "w": np.zeros(3, np.float32)})


def send_another_name_of_a_param(scene: Scene) -> Sent:
    return _sent(scene, params={"b": np.zeros(1, np.float32), "v": np.zeros(4, np.float32)})


def send_another_dtype(scene: Scene) -> Sent:
    return _sent(scene, params={"b": np.zeros(1, np.uint8), "w": np.zeros(4, np.float32)})


def send_half_a_file(scene: Scene) -> Sent:
    sent = _sent(scene)
    assert sent.file is not None
    return replace(sent, file=sent.file[:-5])


def send_a_huge_header(scene: Scene) -> Sent:
    sent = _sent(scene)
    assert sent.file is not None
    return replace(sent, file=(1 << 60).to_bytes(8, "little") + sent.file[8:])


def send_no_file(scene: Scene) -> Sent:
    return replace(_sent(scene), file=None)


def send_other_bytes(scene: Scene) -> Sent:
    sent = _sent(scene)
    assert sent.file is not None
    return replace(sent, file=sent.file[:-1] + b"\x01")


GATE = {
    send_in_another_name: "identity",
    send_garbage: "canonical",
    send_too_much: "size",
    send_deep_nesting: "canonical",
    send_with_a_space: "canonical",
    send_a_further_field: "fields",
    send_a_task: "fields",
    send_another_shape: "header",
    send_another_name_of_a_param: "header",
    send_another_dtype: "header",
    send_half_a_file: "header",
    send_a_huge_header: "header",
    send_no_file: "header",
    send_other_bytes: "blob_digest",
}
"""What the gate must say of each thing that a site may send."""

Act = Callable[[Scene], Update | Sent]

import shutil

from hospitium.engines.hub.local import LocalBackend
from hospitium.state.hub_store import OpenTask, StoredAnswer

NONCE, BLOB = "a" * 64, "b" * 64


def task(site_id):
    return OpenTask(
        run_id="r", site_id=site_id, nonce=NONCE, envelope=b"task", blob=BLOB, upload_bytes=9
    )


def answer(site_id):
    return StoredAnswer(
        run_id="r", site_id=site_id, nonce=NONCE, kind="update", statement=b"s",
        sha256="c" * 64, found="",
    )  # fmt: skip


def lost_while_open(folder):
    """Return a backend of two open tasks whose whole folder was just deleted, and the wakes."""
    model, woken = folder / "model", []
    model.write_bytes(b"params")
    backend = LocalBackend(folder / "hub")
    backend.enqueue([task("kiel"), task("oslo")], blob=model)
    backend.withdraw(NONCE, site_ids=["kiel"])
    backend.listen("oslo", lambda: woken.append("oslo"))
    shutil.rmtree(folder / "hub")
    return backend, woken


def test_a_folder_lost_while_open_is_made_anew_with_what_waits_for_an_answer_still(tmp_path):
    backend, woken = lost_while_open(tmp_path)
    [before] = backend.tasks("oslo", after=0)
    assert backend.answers(NONCE, after=0, wait_s=0) == []
    assert woken == ["oslo"]
    assert [one.envelope for one in backend.tasks("oslo", after=before.n)] == [b"task"]
    assert backend.tasks("kiel", after=0) == []
    assert backend.read(BLOB, start=0, size=99) == b"params"
    backend.close()


def test_after_a_loss_answers_are_taken_and_have_later_numbers(tmp_path):
    backend, _ = lost_while_open(tmp_path)
    before = backend.answer(answer("oslo"))  # into a file that nobody can open any more
    backend.answers(NONCE, after=before.n, wait_s=0)
    after = backend.answer(answer("oslo"))
    assert after.n > before.n
    assert backend.answers(NONCE, after=before.n, wait_s=0) == [after]
    backend.close()

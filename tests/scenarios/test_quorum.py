import pytest
from lies import LIES
from runs import create, go_on, sites_by_name, small_plan

from hospitium.errors import QuorumError
from hospitium.state.history import interruptions, participation
from hospitium.state.ledger import RunLedger
from hospitium.types import LeftOut
from hospitium.wire.blob import digest_of


def absent_in(round_number, *names, reason="deadline", asked=None):
    """Return the sites of a run, of which these do not answer in one round."""

    def acts(name, honest):
        def answer(task):
            if asked is not None:
                asked.append((task.round_number, name))
            if task.round_number == round_number and name in names:
                return LeftOut(site_id=name, reason=reason)
            return honest(task)

        return answer

    return {name: acts(name, honest) for name, honest in sites_by_name().items()}


def stopped(folder, sites):
    with pytest.raises(QuorumError) as caught:
        go_on(folder, sites)
    return str(caught.value)


def test_below_quorum_the_message_names_the_round_the_sites_the_reasons_and_what_to_do(tmp_path):
    create(tmp_path, small_plan(rounds=3, quorum=3))
    message = stopped(tmp_path, absent_in(2, "site-1", "site-3"))
    assert message == (
        "Round 2: 1 of 3 sites gave a usable update; the plan's quorum is 3. Without one: "
        "site-1 (deadline); site-3 (deadline). The model was not changed. The study lead: bring "
        "these sites back and resume the run with `hospitium run resume r`, or agree on a plan "
        "with a lower quorum."
    )


def test_below_quorum_the_model_is_that_of_the_last_closed_round(tmp_path):
    create(tmp_path / "ok", small_plan(rounds=1, quorum=3))
    state, _ = go_on(tmp_path / "ok")
    create(tmp_path / "stopped", small_plan(rounds=3, quorum=3))
    stopped(tmp_path / "stopped", absent_in(2, "site-1"))
    ledger = RunLedger(tmp_path / "stopped")
    assert ledger.last_closed == 1 and not ledger.is_finished
    assert ledger.digests_after(1)["params"] == digest_of(state.params)
    assert digest_of(ledger.resume()[0].params) == digest_of(state.params)
    ledger.close()


def test_in_round_1_below_quorum_there_is_nothing_but_the_first_params(tmp_path):
    create(tmp_path, small_plan(rounds=2, quorum=2))
    message = stopped(tmp_path, absent_in(1, "site-1", "site-2", "site-3", reason="died"))
    assert message.startswith("Round 1: 0 of 3 sites gave a usable update")
    assert "site-1 (died); site-2 (died); site-3 (died)" in message
    ledger = RunLedger(tmp_path)
    assert ledger.last_closed == 0 and ledger.resume() is None
    ledger.close()


def test_a_refused_update_does_not_count_for_the_quorum_and_its_reason_is_in_the_message(tmp_path):
    create(tmp_path, small_plan(rounds=2, quorum=3))
    sites = sites_by_name()
    honest = sites["site-2"]
    sites["site-2"] = lambda task: LIES["a NaN"][1](honest(task))
    assert "Without one: site-2 (non_finite)." in stopped(tmp_path, sites)


def test_when_the_sites_are_back_the_run_ends_as_an_unbroken_one(tmp_path):
    create(tmp_path / "unbroken", small_plan(rounds=3, quorum=3))
    state, record = go_on(tmp_path / "unbroken")
    create(tmp_path / "stopped", small_plan(rounds=3, quorum=3))
    stopped(tmp_path / "stopped", absent_in(2, "site-2"))
    resumed, again = go_on(tmp_path / "stopped")
    assert digest_of(resumed.params) == digest_of(state.params)
    assert again["seats"] == record["seats"] and again["blobs"] == record["blobs"]
    assert [row["attempt"] for row in again["rounds"]] == [1, 2, 1]


def test_after_a_resume_only_the_sites_that_were_missing_are_asked_again(tmp_path):
    create(tmp_path, small_plan(rounds=3, quorum=3))
    stopped(tmp_path, absent_in(2, "site-2"))
    asked = []
    go_on(tmp_path, absent_in(0, asked=asked))
    assert asked == [(2, "site-2"), (3, "site-1"), (3, "site-2"), (3, "site-3")]


def test_the_ledger_keeps_why_each_attempt_failed(tmp_path):
    create(tmp_path, small_plan(rounds=2, quorum=3))
    stopped(tmp_path, absent_in(2, "site-2", reason="deadline"))
    stopped(tmp_path, absent_in(2, "site-2", reason="died"))
    go_on(tmp_path)
    ledger = RunLedger(tmp_path)
    entry = participation(ledger)[1]
    assert entry["attempts"] == 3 and entry["left_out"] == []
    assert entry["answered"] == ["site-1", "site-2", "site-3"]
    assert [(row["attempt"], row["reason"]) for row in entry["refused"]] == [
        (1, "deadline"),
        (2, "died"),
    ]
    assert [row["round"] for row in interruptions(ledger)] == [1, 1]
    ledger.close()


def test_with_exactly_the_quorum_the_round_is_closed_and_says_who_was_missing(tmp_path):
    create(tmp_path, small_plan(rounds=2, quorum=2))
    go_on(tmp_path, absent_in(1, "site-2"))
    ledger = RunLedger(tmp_path)
    first, second = participation(ledger)
    assert first["left_out"] == [{"site_id": "site-2", "reason": "deadline"}]
    assert second["answered"] == ["site-1", "site-2", "site-3"]
    ledger.close()

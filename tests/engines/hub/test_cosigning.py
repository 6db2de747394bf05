"""What sites find of a coordinator that does not ask all alike, or shows not one history."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from witnesses import MEMBERS, PLAN, RUN, SITES, Centre, Site, params_of, signing, task_of

from hospitium.engines.hub.cosigning import EARLIER, Cosigning
from hospitium.engines.hub.local import LocalBackend
from hospitium.engines.hub.messages import Reply
from hospitium.engines.hub.opening import Opening
from hospitium.engines.hub.watched import WatchedRun, stopped_runs
from hospitium.errors import CorruptedError, StateConflictError, TrustError, UpdateError
from hospitium.types import LeftOut
from hospitium.wire.canonical import digest

OTHER = {"w": np.full(3, 77, np.float32)}


@pytest.fixture
def centre(tmp_path):
    centre = Centre(tmp_path / "centre")
    yield centre
    centre.close()


@pytest.fixture
def sites(tmp_path):
    return {site_id: Site(tmp_path / "sites", site_id) for site_id in SITES}


@pytest.fixture
def fork(centre, tmp_path):
    """The same coordinator with another history from now on."""
    made = []

    def fork():
        made.append(centre.copied(tmp_path / f"fork-{len(made)}"))
        return made[-1]

    yield fork
    for one in made:
        one.close()


def look(site, ask, number):
    return site.watch.look(ask, replace(task_of(number), params={}), PLAN)


def found(site, ask, number):
    """Return the reason for which a site stops at a task; None where it goes on."""
    try:
        look(site, ask, number)
    except TrustError as error:
        return error.reason
    return None


def test_an_honest_run_is_cosigned_round_by_round(centre, sites):
    for number in (1, 2, 3):
        centre.round(number, sites)
    for site_id, site in sites.items():
        (first, second) = WatchedRun(site.folder / RUN).logged()
        assert json.loads(first["entry"])["site_id"] == site_id
        assert (json.loads(second["entry"])["round_number"], stopped_runs(site.folder)) == (2, [])
    assert len(centre.ledger.log.of("asked")) == 3


def test_a_site_that_was_away_for_many_rounds_goes_on(centre, sites):
    centre.round(1, sites)
    for number in range(2, 8):
        centre.round(number, sites, of=("bergen", "turin"))
    ask = centre.ask(task_of(8))["oslo"]
    rounds = [json.loads(one.entry.data)["round_number"] for one in closed_of(ask)]
    assert rounds == [1, 2, 3, 4, 5, 6, 7] and found(sites["oslo"], ask, 8) is None


def test_a_site_that_only_looked_and_never_answered_goes_on(centre, sites):
    for number in range(1, 7):
        asks = centre.ask(task_of(number))
        assert found(sites["oslo"], asks["oslo"], number) is None
        for site_id in ("bergen", "turin"):
            centre.take(site_id, sites[site_id].answer(asks[site_id], task_of(number)))
        centre.close_round()
    assert len(Opening.decoded(asks["oslo"].opening).earlier) == 5 <= EARLIER


def test_the_same_round_asked_again_after_a_crash_carries_the_same_checkpoint(centre, sites):
    centre.round(1, sites)
    before = centre.ask(task_of(2))
    centre.take("oslo", sites["oslo"].answer(before["oslo"], task_of(2)))
    centre.close()
    centre.__init__(centre.folder)
    after = centre.ask(task_of(2), of=("bergen", "turin"))
    for site_id, ask in after.items():
        assert ask.envelope == before[site_id].envelope
        centre.take(site_id, sites[site_id].answer(ask, task_of(2)))
    centre.close_round()
    assert found(sites["oslo"], centre.ask(task_of(3))["oslo"], 3) is None


def test_another_member_list_or_another_set_in_mid_round_is_logged_and_no_lie(centre, sites):
    first = centre.ask(task_of(1), sites=("bergen", "oslo"))
    centre.take("oslo", sites["oslo"].answer(first["oslo"], task_of(1)))
    second = centre.ask(task_of(1), of=("bergen", "turin"), members_digest="4" * 64)
    for site_id in ("bergen", "turin"):
        centre.take(site_id, sites[site_id].answer(second[site_id], task_of(1)))
    centre.close_round()
    asks = centre.ask(task_of(2), members_digest="4" * 64)
    assert [found(sites[site_id], asks[site_id], 2) for site_id in SITES] == [None] * 3
    assert len(centre.ledger.log.of("asked", round_number=1)) == 2


def test_a_late_site_checks_what_was_before_it(centre, sites, tmp_path):
    for number in (1, 2):
        centre.round(number, sites, of=("bergen", "oslo"))
    assert found(sites["turin"], centre.ask(task_of(3))["turin"], 3) is None


def test_scores_are_watched_too(centre, sites):
    centre.round(1, sites)
    for params in (params_of(2), OTHER, params_of(2)):
        task = task_of(2, params=params, purpose="score")
        ask = centre.ask(task)["oslo"]
        sites["oslo"].answer(ask, task)
    assert stopped_runs(sites["oslo"].folder) == []


# --- a coordinator that lies ------------------------------------------------------------------


def split(centre, sites, other):
    """Ask turin with another model, by a history of its own, and hide it as well as one can."""
    mine, yours = task_of(1), task_of(1, params=OTHER)
    asks = centre.ask(mine)
    for site_id in ("bergen", "oslo"):
        centre.take(site_id, sites[site_id].answer(asks[site_id], mine))
    theirs = sites["turin"].answer(other.ask(yours)["turin"], yours)
    centre.forge("turin", theirs)
    other.forge("turin", theirs)
    for site_id in ("bergen", "oslo"):
        other.forge(site_id, sites[site_id].last_reply.signed(signing(site_id)))
    for one in (centre, other):
        one.close_round()


def test_a_split_model_is_found_by_everybody_at_the_next_task(centre, sites, fork):
    other = fork()
    split(centre, sites, other)
    asks = centre.ask(task_of(2))
    assert found(sites["oslo"], asks["oslo"], 2) == "split"
    assert found(sites["bergen"], asks["bergen"], 2) == "split"
    assert found(sites["turin"], other.ask(task_of(2))["turin"], 2) == "split"


def test_who_found_it_keeps_the_evidence_and_answers_no_more(centre, sites, fork):
    split(centre, sites, fork())
    ask, oslo = centre.ask(task_of(2))["oslo"], sites["oslo"]
    seen = (oslo.folder / RUN / "seen.note").read_bytes()
    assert found(oslo, ask, 2) == "split"
    (stopped,) = stopped_runs(oslo.folder)
    assert (stopped["run_id"], stopped["reason"]) == (RUN, "split")
    assert "turin" in stopped["words"] and "call the officers" in stopped["words"]
    assert (oslo.folder / RUN / "evidence-task.dsse").read_bytes() == ask.envelope
    assert (oslo.folder / RUN / "evidence-seen.note").read_bytes() == seen
    centre.close_round()
    assert found(oslo, centre.ask(task_of(3))["oslo"], 3) == "split"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"reason": 1}', b"\xff"])
def test_a_damaged_note_on_why_a_run_ended_still_ends_it(tmp_path, data):
    watched = WatchedRun(tmp_path / RUN)
    (tmp_path / RUN).mkdir(exist_ok=True)
    (tmp_path / RUN / "stopped.json").write_bytes(data)
    with pytest.raises(TrustError, match="damaged"):
        watched.require_going_on()
    assert [row["run_id"] for row in stopped_runs(tmp_path)] == [RUN]


def test_a_model_that_the_log_does_not_name_is_found_at_once(centre, sites):
    ask = centre.ask(task_of(1))["oslo"]
    other = replace(task_of(1, params=OTHER), params={})
    with pytest.raises(TrustError, match="another base_digest") as caught:
        sites["oslo"].watch.look(ask, other, PLAN)
    assert caught.value.reason == "split"


def test_two_histories_with_one_model_are_found_too(centre, sites, fork):
    other = fork()
    other.ledger.seated(replace(other.ledger.seats[0], num_cases=99), from_round=1)
    asks = centre.ask(task_of(1))
    for site_id in ("bergen", "oslo"):
        centre.take(site_id, sites[site_id].answer(asks[site_id], task_of(1)))
    centre.forge("turin", sites["turin"].answer(other.ask(task_of(1))["turin"], task_of(1)))
    centre.close_round()
    assert found(sites["oslo"], centre.ask(task_of(2))["oslo"], 2) == "fork"


def test_a_site_that_is_shown_another_history_than_before_finds_it(centre, sites, fork):
    centre.round(1, sites)
    other = fork()
    centre.round(2, sites)
    other.ledger.seated(replace(other.ledger.seats[0], num_cases=99), from_round=2)
    asks = other.ask(task_of(2))
    assert found(sites["oslo"], asks["oslo"], 2) in ("fork", "gap")
    assert stopped_runs(sites["oslo"].folder)[0]["reason"] in ("fork", "gap")


def test_a_log_that_lost_its_end_is_found(centre, sites, fork):
    older = fork()
    for number in (1, 2):
        centre.round(number, sites)
    assert found(sites["oslo"], older.ask(task_of(3))["oslo"], 3) == "rollback"


def test_a_log_that_does_not_show_that_it_goes_on_is_not_believed(centre, sites, monkeypatch):
    centre.round(1, sites)
    monkeypatch.setattr(Cosigning, "_consistency", lambda self, old, new: [b"x" * 32])
    assert found(sites["oslo"], centre.ask(task_of(2))["oslo"], 2) == "fork"
    ask = centre.ask(task_of(2))["bergen"]
    ask = replace(ask, opening=replace(Opening.decoded(ask.opening), earlier={}).encoded())
    assert found(sites["bergen"], ask, 2) == "gap"


def test_fewer_sites_than_the_task_says_are_found(centre, sites):
    ask = centre.ask(task_of(1), sites=("bergen", "oslo"))["oslo"]
    assert found(sites["oslo"], replace(ask, num_sites=3), 1) == "split"


def test_sites_that_no_member_list_names_are_found(centre, tmp_path):
    oslo = Site(tmp_path, "oslo", known=("bergen", "oslo"))
    assert found(oslo, centre.ask(task_of(1))["oslo"], 1) == "members"


def test_a_round_that_was_closed_with_one_site_alone_is_not_gone_on_with(centre, sites):
    asks = centre.ask(task_of(1))
    centre.take("oslo", sites["oslo"].answer(asks["oslo"], task_of(1)))
    centre.close_round()
    assert found(sites["oslo"], centre.ask(task_of(2))["oslo"], 2) == "threshold"


def closed_of(ask):
    return Opening.decoded(ask.opening).closed


@pytest.mark.parametrize("keep", [0, 1])
def test_a_cosignature_that_is_held_back_is_missed(centre, sites, keep):
    centre.round(1, sites)
    ask = centre.ask(task_of(2))["oslo"]
    opening = Opening.decoded(ask.opening)
    shown = opening.closed[0]
    less = replace(
        shown, cosignatures=[one for one in shown.cosignatures if one.site_id != "turin"]
    )
    less = replace(opening, closed=[less] * keep)
    assert found(sites["oslo"], replace(ask, opening=less.encoded()), 2) == "gap"


def test_a_cosignature_of_an_earlier_round_is_no_cosignature_of_this_one(centre, sites):
    centre.round(1, sites)
    old = sites["turin"].last_reply.signed(signing("turin"))
    asks = centre.ask(task_of(2))
    for site_id in ("bergen", "oslo"):
        centre.take(site_id, sites[site_id].answer(asks[site_id], task_of(2)))
    with pytest.raises(UpdateError) as caught:
        centre.take("turin", old)
    assert caught.value.reason == "round"
    centre.forge("turin", old)
    centre.close_round()
    assert found(sites["oslo"], centre.ask(task_of(3))["oslo"], 3) == "fork"


def test_a_cosignature_in_anothers_name_is_found(centre, sites):
    asks = centre.ask(task_of(1))
    for site_id in SITES:
        sites[site_id].answer(asks[site_id], task_of(1))
    bergen = sites["bergen"].last_reply
    centre.take("bergen", bergen.signed(signing("bergen")))
    centre.take("oslo", sites["oslo"].last_reply.signed(signing("oslo")))
    centre.forge("turin", bergen.signed(signing("turin")))
    centre.close_round()
    assert found(sites["oslo"], centre.ask(task_of(2))["oslo"], 2) == "signature"


def test_another_answer_in_my_name_is_found(centre, sites):
    asks = centre.ask(task_of(1))
    for site_id in ("bergen", "turin"):
        centre.take(site_id, sites[site_id].answer(asks[site_id], task_of(1)))
    sites["oslo"].answer(asks["oslo"], task_of(1))
    other = replace(sites["oslo"].last_reply, content=b"another")
    centre.forge("oslo", other.signed(signing("oslo")))
    centre.close_round()
    assert found(sites["oslo"], centre.ask(task_of(2))["oslo"], 2) == "fork"


def test_another_member_list_for_one_site_is_found(centre, sites, fork):
    other = fork()
    asks = centre.ask(task_of(1))
    for site_id in ("bergen", "oslo"):
        centre.take(site_id, sites[site_id].answer(asks[site_id], task_of(1)))
    older = other.ask(task_of(1), members_digest="2" * 64)["turin"]
    centre.forge("turin", sites["turin"].answer(older, task_of(1)))
    centre.close_round()
    assert found(sites["oslo"], centre.ask(task_of(2))["oslo"], 2) in ("fork", "split")


def test_a_task_that_shows_nothing_is_not_answered_but_ends_nothing(centre, sites):
    ask = centre.ask(task_of(1))["oslo"]
    assert found(sites["oslo"], replace(ask, opening=b""), 1) == "canonical"
    assert found(sites["oslo"], ask, 1) is None


def test_what_was_seen_and_is_damaged_on_the_sites_disk_accuses_nobody(centre, sites):
    centre.round(1, sites)
    for name in ("seen.note", "train-000001.json"):
        path = sites["oslo"].folder / RUN / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-9])
        with pytest.raises(CorruptedError):
            look(sites["oslo"], centre.ask(task_of(2))["oslo"], 2)
        path.write_bytes(whole)
    assert stopped_runs(sites["oslo"].folder) == []


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What oslo is shown in round 2, and the folder of the sites."""
    folder = tmp_path_factory.mktemp("shown")
    centre = Centre(folder / "centre")
    sites = {site_id: Site(folder / "sites", site_id) for site_id in SITES}
    centre.round(1, sites)
    ask = centre.ask(task_of(2))["oslo"]
    centre.close()
    return ask, folder


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_byte_of_what_is_shown_can_change_unseen(shown, data):
    ask, folder = shown
    index = data.draw(st.integers(0, len(ask.opening) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != ask.opening[index]))
    changed = ask.opening[:index] + bytes([byte]) + ask.opening[index + 1 :]
    oslo = Site(folder / "sites", "oslo")
    with pytest.raises(TrustError):
        look(oslo, replace(ask, opening=changed), 2)
    (oslo.folder / RUN / "stopped.json").unlink(missing_ok=True)


# --- sites that lie ---------------------------------------------------------------------------


def test_an_update_without_a_cosignature_or_with_anothers_does_not_count(centre, sites):
    asks = centre.ask(task_of(1))
    statement = sites["oslo"].answer(asks["oslo"], task_of(1))
    reply = Reply.opened(statement, key=signing("oslo").public)
    sites["turin"].answer(asks["turin"], task_of(1))
    for cosignature in (b"", b"{}", sites["turin"].last_reply.cosignature):
        with pytest.raises(UpdateError) as caught:
            centre.take("oslo", replace(reply, cosignature=cosignature).signed(signing("oslo")))
        assert caught.value.reason == "signature"
    centre.take("oslo", statement)


def test_a_cosignature_of_another_model_does_not_count(centre, sites, fork):
    other = fork()
    yours = task_of(1, params=OTHER)
    statement = sites["oslo"].answer(other.ask(yours)["oslo"], yours)
    centre.ask(task_of(1))
    with pytest.raises(UpdateError) as caught:
        centre.take("oslo", statement)
    assert caught.value.reason == "base"


def test_one_digest_is_accepted_for_a_seat_even_if_its_file_was_lost(centre, sites):
    asks = centre.ask(task_of(1))
    first = sites["oslo"].answer(asks["oslo"], task_of(1))
    centre.take("oslo", first)
    digest_ = centre.ledger.log.accepted(1)["oslo"]["digest"]
    centre.ledger.store.path(digest_).write_bytes(b"torn by a power cut")
    again = centre.ask(task_of(1))["oslo"]
    other = replace(sites["oslo"].last_reply, content=other_update(sites["oslo"]))
    with pytest.raises(UpdateError) as caught:
        centre.take("oslo", other.signed(signing("oslo")))
    assert caught.value.reason == "seat_conflict"
    assert digest(sites["oslo"].answer(again, task_of(1))) == digest(first)
    centre.take("oslo", first)


def test_two_updates_for_one_task_are_both_kept_and_logged_and_errors_are_none(
    centre, sites, tmp_path
):
    ask = centre.ask(task_of(1))["oslo"]
    first = sites["oslo"].answer(ask, task_of(1))
    words = replace(sites["oslo"].last_reply, kind="error", content=b"died", cosignature=b"")
    other = replace(sites["oslo"].last_reply, content=other_update(sites["oslo"]))
    backend = LocalBackend(tmp_path / "hub")
    backend.answer(centre.stored("oslo", first))
    for second, expected in ((words, []), (other, [[digest(first)]])):
        statement = second.signed(signing("oslo"))
        with pytest.raises(StateConflictError):
            backend.answer(centre.stored("oslo", statement))
        centre.cosigning.keep_conflicts(backend, ask.nonce, site_ids={"oslo", "turin"})
        found = [leaf["statements"][:1] for _, leaf in centre.ledger.log.of("conflict")]
        assert found == expected
    assert centre.ledger.log.conflicting(1) == {"oslo"}
    kept = {row["statement"] for row in centre.ledger.rows("SELECT statement FROM conflicts")}
    assert kept == {first, statement}
    centre.cosigning.keep_conflicts(backend, ask.nonce, site_ids={"oslo"})
    assert len(centre.ledger.log.of("conflict")) == 1
    backend.close()


def other_update(site):
    content = json.loads(site.last_reply.content)
    content["blob"] = "e" * 64
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


# --- any honest schedule ----------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sets(st.sampled_from(SITES)),  # who answers
        st.sets(st.sampled_from(SITES)),  # who only looks
        st.sampled_from(["close", "again", "restart", "list", "struck"]),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_no_honest_coordinator_is_ever_accused(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("honest")
    centre = Centre(folder / "centre")
    sites = {site_id: Site(folder / "sites", site_id) for site_id in SITES}
    number, members = 1, MEMBERS
    for answering, looking, then in steps:
        waiting = centre.ledger.opened(task_of(number), SITES)
        asks = centre.ask(task_of(number), of=waiting, members_digest=members)
        for site_id in waiting:
            if site_id in answering:
                centre.take(site_id, sites[site_id].answer(asks[site_id], task_of(number)))
            elif site_id in looking:
                look(sites[site_id], asks[site_id], number)
        if then == "struck" and answering:
            gone = [LeftOut(site_id=min(answering), reason="withdrew")]
            centre.ledger.struck(centre.task, gone)
        _, accepted = centre.ledger.standing_of(number)
        if then == "close" and len(accepted) >= 2:
            centre.close_round()
            number += 1
        elif then == "restart":
            centre.close()
            centre.__init__(centre.folder)
        elif then == "list":
            members = digest(members.encode())
        else:
            centre.ledger.below_quorum(centre.task)
    centre.close()
    assert [stopped_runs(site.folder) for site in sites.values()] == [[], [], []]

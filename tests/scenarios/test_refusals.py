from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
from lies import LIES
from runs import create, go_on, sites_by_name, small_plan

from hospitium.state.history import participation
from hospitium.state.ledger import RunLedger
from hospitium.testing.fakes import DirectEngine
from hospitium.types import Answer, LeftOut, Task, Update
from hospitium.wire.blob import digest_of
from hospitium.wire.gate import REASONS

ROUNDS = 3


def run(folder, site=None, act=None, order=sorted):
    """Run a federation in which one site acts otherwise; return state, record, participation."""
    folder.mkdir()
    create(folder, small_plan(rounds=ROUNDS))
    sites = sites_by_name()
    if site:
        honest = sites[site]
        sites[site] = lambda task: act(honest(task))
    state, record = go_on(folder, sites, order)
    ledger = RunLedger(folder)
    seen = participation(ledger)
    ledger.close()
    return state, record, seen


def silent(update):
    return LeftOut(site_id=update.site_id, reason="deadline")


def model_of(record):
    """What a run came to: every digest, sum and bound of every round."""
    return [{key: row[key] for key in row if key != "attempt"} for row in record["rounds"]]


@pytest.mark.parametrize("liar", ["site-1", "site-3"])
@pytest.mark.parametrize("lie", LIES)
def test_a_lie_changes_no_bit_and_is_in_the_ledger_with_site_and_reason(tmp_path, lie, liar):
    reason, act = LIES[lie]
    without = run(tmp_path / "without", liar, silent)
    found = run(tmp_path / "with", liar, act)
    assert digest_of(found[0].params) == digest_of(without[0].params)
    assert model_of(found[1]) == model_of(without[1])
    assert reason in REASONS
    for entry in found[2]:
        assert entry["answered"] == sorted(set(entry["asked"]) - {liar})
        assert entry["left_out"] == [{"site_id": liar, "reason": reason}]
        assert entry["refused"] == [{"site_id": liar, "reason": reason, "attempt": 1}]


@dataclass(kw_only=True)
class IntrudedEngine(DirectEngine):
    """An engine on which someone else also speaks: further answers before and after honest ones."""

    intrude: Callable[[Task, Update], Sequence[Answer]]

    def ask(self, task: Task, site_ids: Sequence[str], *, deadline_s: float) -> Iterator[Answer]:
        for answer in super().ask(task, site_ids, deadline_s=deadline_s):
            before, after = self.intrude(task, answer)
            yield from (*before, answer, *after)


def run_intruded(folder, intrude):
    folder.mkdir()
    create(folder, small_plan(rounds=ROUNDS))
    engine = IntrudedEngine(sites=sites_by_name(), intrude=intrude)
    state, record = go_on(folder, engine=engine)
    ledger = RunLedger(folder)
    refused = [entry["refused"] for entry in participation(ledger)]
    ledger.close()
    return state, record, refused


def only_site_2(answers):
    return lambda task, update: answers(update) if update.site_id == "site-2" else ((), ())


INTRUSIONS = {
    "a duplicate": ("site-2", "seat_conflict", lambda u: ((), (u, u))),
    "another update in the same seat": (
        "site-2",
        "seat_conflict",
        lambda u: ((), (replace(u, delta={name: -x for name, x in u.delta.items()}),)),
    ),
    "a site without a seat": ("bergen", "members", lambda u: ((replace(u, site_id="bergen"),), ())),
    "a stale round before the honest answer": (
        "site-2",
        "round",
        lambda u: ((replace(u, round_number=0),), ()),
    ),
    "a stale round after the honest answer": (
        "site-2",
        "round",
        lambda u: ((), (replace(u, round_number=0),)),
    ),
}


@pytest.mark.parametrize("what", INTRUSIONS)
def test_what_comes_beside_the_honest_answers_changes_nothing_and_is_recorded(tmp_path, what):
    site_id, reason, intrude = INTRUSIONS[what]
    plain_state, plain, _ = run(tmp_path / "plain")
    state, record, refused = run_intruded(tmp_path / "intruded", only_site_2(intrude))
    assert digest_of(state.params) == digest_of(plain_state.params)
    assert {**record, "refusals": []} == plain
    assert refused == [[{"site_id": site_id, "reason": reason, "attempt": 1}]] * ROUNDS


def test_a_site_that_is_refused_first_and_then_answers_honestly_counts(tmp_path):
    bad = LIES["a NaN"][1]
    _, plain, _ = run(tmp_path / "plain")
    intrude = only_site_2(lambda update: ((bad(update),), ()))
    _, record, refused = run_intruded(tmp_path / "intruded", intrude)
    assert {**record, "refusals": []} == plain
    assert refused[0] == [{"site_id": "site-2", "reason": "non_finite", "attempt": 1}]


def test_a_site_that_raises_is_left_out_and_the_round_goes_on(tmp_path):
    def broken(update):
        raise ZeroDivisionError

    without = run(tmp_path / "without", "site-1", silent)
    found = run(tmp_path / "with", "site-1", broken)
    assert model_of(found[1]) == model_of(without[1])
    assert found[2][0]["left_out"] == [{"site_id": "site-1", "reason": "ZeroDivisionError"}]


@pytest.mark.parametrize("order", [sorted, lambda ids: sorted(ids, reverse=True)])
def test_a_liar_first_or_last_in_line_makes_no_difference_to_the_others(tmp_path, order):
    """Sums of another length once set the length for all others, who were then refused."""
    act = LIES["sums of another length"][1]
    _, record, seen = run(tmp_path / "lied", "site-1", act, order=order)
    assert [entry["answered"] for entry in seen] == [["site-2", "site-3"]] * ROUNDS
    assert len(record["rounds"]) == ROUNDS

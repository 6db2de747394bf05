"""A named person has a site go on with a run: in the record, with a reason, the evidence kept."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from audited import NAME, ORIGIN, RUN, both

from hospitium.errors import CorruptedError, TrustError, UsageError
from hospitium.operations.desks import coordinator_key, existing
from hospitium.operations.leaving import list_departures
from hospitium.operations.resuming import resume_run
from hospitium.operations.site_watching import left_runs
from hospitium.site.record import departures_of
from hospitium.wire.canonical import digest
from hospitium.wire.checkpoints import sign_checkpoint

TASK = b"the task that was refused"
NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def there(recorded, tmp_path):
    """Oslo was shown another history in the end, and is out of the run."""
    there = recorded.copy(tmp_path / "there")
    watched = there.watched("oslo")
    other = replace(watched.checkpoint(), root=b"x" * 32)
    watched.remember(
        sign_checkpoint(other, coordinator_key(existing(there.federation.coordinator, NAME)))
    )
    watched.stop(TrustError("fork", "Another history."), ask=TASK)
    return there


def go_on(there, run_id=RUN, *, by="Kari Nordmann", reason="restored from a backup"):
    return resume_run(there.home("oslo"), NAME, run_id, by=by, reason=reason, now=NOW)


def test_it_is_an_entry_of_the_record_and_every_file_of_evidence_is_kept(there, tmp_path):
    before = {path.name: path.read_bytes() for path in there.watched("oslo").folder.iterdir()}
    found = go_on(there)
    assert (found["stopped"], found["run_id"]) == ("fork", RUN)
    place = there.federation.place("oslo")
    assert left_runs(place) == [] and there.watched("oslo").checkpoint() is None
    (aside,) = (place.folder / "work" / "watch-set-aside" / RUN).iterdir()
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == before
    leaf = list(departures_of(place).rows())[found["n"]].line.leaf
    assert (leaf["kind"], leaf["by"], leaf["reason"], leaf["destination"]) == (
        "resumed", "Kari Nordmann", "restored from a backup", "this site",
    )  # fmt: skip
    assert leaf["evidence_sha256"] == digest(TASK)
    assert list_departures(there.home("oslo"), NAME, now=NOW)[-1]["standing"] == "none"
    assert both(there.bundles("oslo"), tmp_path) == set()


def test_what_a_site_was_shown_stays_in_its_exports(there, tmp_path):
    size = there.watched("oslo").checkpoint().size
    go_on(there)
    assert both(there.bundles("oslo", "coordinator"), tmp_path) == {(ORIGIN, "fork", size)}


@pytest.mark.parametrize(
    "words",
    [
        {"by": ""},
        {"reason": ""},
        {"by": " "},
        {"reason": "two\nlines"},
        {"by": "x" * 513},
        {"run_id": "another"},
        {"run_id": "../study"},
    ],
)
def test_without_all_that_it_needs_nothing_is_changed(there, words):
    place = there.federation.place("oslo")
    size = len(list(departures_of(place).rows()))
    with pytest.raises(UsageError, match="Nothing was changed"):
        go_on(there, **words)
    assert [row["run_id"] for row in left_runs(place)] == [RUN]
    assert len(list(departures_of(place).rows())) == size


def test_only_who_may_approve_a_plan_may_decide_it(there):
    with pytest.raises(TrustError, match="not named in approval"):
        go_on(there, by="Someone Else")
    assert [row["run_id"] for row in left_runs(there.federation.place("oslo"))] == [RUN]


def test_a_site_that_is_out_of_no_run_has_none_to_go_on_with(recorded):
    with pytest.raises(UsageError, match="out of: none"):
        resume_run(recorded.home("oslo"), NAME, RUN, by="Kari", reason="x", now=NOW)


def test_where_the_record_is_damaged_nothing_is_decided(there):
    path = there.log("oslo") / "leaves.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"bytes":', b'"bytes":1', 1))
    with pytest.raises(CorruptedError):
        go_on(there)
    assert len(left_runs(there.federation.place("oslo"))) == 1

"""A coordinator sends one hospital another model: that one stops, and keeps the evidence."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from between_machines import Between
from tiny import tiny_plan

from hospitium.engines.hub import engine
from hospitium.engines.hub.messages import Ask
from hospitium.operations.site_status import status
from hospitium.site.consent import REFUSALS
from hospitium.site.record import departures_of
from hospitium.wire.envelope import decode_task, encode_task
from hospitium.wire.signing import VerifyKey

SITES = ["bergen", "oslo", "turku"]


def lying(**fields):
    """Make what a site is asked; turku gets another model from round 2 on."""
    task = decode_task(fields["task"], params={})
    if fields["site_id"] == "turku" and task.round_number == 2:
        other = replace(task, base_digest="e" * 64)
        return Ask(**{**fields, "task": encode_task(other), "blob": "e" * 64})
    return Ask(**fields)


@pytest.mark.ci
def test_a_site_that_is_sent_another_model_stops_and_everybody_hears_of_it(
    tmp_path, pool, monkeypatch
):
    monkeypatch.setattr(engine, "Ask", lying)
    with Between(tmp_path, pool, site_ids=SITES) as three:
        three.up()
        plan = three.offer(tiny_plan(batching="equal"))
        three.approve(plan, *SITES)
        three.attend(*SITES)
        three.start(plan)
        found = three.finished()
        left_out = {
            (row["round"], each["site_id"]): each["reason"]
            for row in found["participation"]
            for each in row["left_out"]
        }
        words = f"error: {REFUSALS['split']}"
        assert left_out == {(2, "turku"): words, (3, "turku"): words}
        (row,) = status(three.federation.site("turku"), now=datetime.now(UTC))
        (stopped,) = row["stopped_runs"]
        assert (stopped["run_id"], stopped["reason"]) == ("study", "split")
        assert "another base_digest" in row["last_error"] and row["last_error"].startswith("E501")
        (row,) = status(three.federation.site("oslo"), now=datetime.now(UTC))
        assert row["stopped_runs"] == []
        place = three.federation.place("turku")
        watched = place.folder / "work" / "watch" / "study"
        evidence = (watched / "evidence-task.dsse").read_bytes()
        ask = Ask.opened(evidence, key=key_of(place), site_id="turku")
        assert decode_task(ask.task, params={}).base_digest == "e" * 64
        said = [row.line.leaf for row in departures_of(place).rows()]
        assert {x["public"] for x in said if x["kind"] == "error"} == {REFUSALS["split"]}
        assert "another base_digest" in (place.folder / "work" / "site.log").read_text()


def key_of(place):
    return VerifyKey.from_hex(place.members().coordinator_keys[0])

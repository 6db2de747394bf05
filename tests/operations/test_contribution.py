"""Who contributed what: two records of the same run, and whether they agree."""

import base64
import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from between_machines import Between
from carried import NAME
from runs import create, go_on, small_plan
from tiny import tiny_plan

from hospitium.engines.hub.watched import WATCH, WatchedRun
from hospitium.errors import TrustError, UnknownRunError, UsageError
from hospitium.operations.contribution import check, of_run, of_site, write
from hospitium.operations.runs import show_run
from hospitium.plan.schema import AgreementSection
from hospitium.site.record import departures_of
from hospitium.state.home import Home
from hospitium.state.ledger import RunLedger
from hospitium.wire.canonical import canonical_json
from hospitium.wire.checkpoints import coordinator_origin, open_checkpoint, site_origin
from hospitium.wire.cosignatures import open_cosignature
from hospitium.wire.merkle import leaf_hash, verify_inclusion
from hospitium.wire.signing import VerifyKey

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SITES = ["bergen", "oslo"]


def test_a_run_on_one_machine_has_lines_and_no_signatures(tmp_path):
    create(tmp_path / "runs" / "r", small_plan(rounds=2))
    go_on(tmp_path / "runs" / "r")
    found = of_run(Home(tmp_path), "r", signed=(), now=NOW)
    assert [row["site_id"] for row in found["sites"]] == ["site-1", "site-2", "site-3"]
    assert [line["round_number"] for line in found["sites"][0]["lines"]] == [1, 2]
    assert (found["statement"], found["sites"][0]["standing"]) == ("", "not signed")


@pytest.fixture(scope="module")
def done(tmp_path_factory, pool):
    """A finished run of two sites between machines."""
    with Between(tmp_path_factory.mktemp("contribution"), pool, site_ids=SITES) as two:
        two.up()
        plan = tiny_plan(batching="equal")
        agreed = AgreementSection(reference="NORTH-2026/4", licence="CC-BY-NC-4.0")
        plan = two.offer(replace(plan, agreement=agreed))
        two.approve(plan, *SITES)
        two.attend(*SITES)
        two.start(plan)
        two.finished()
        yield two


def signed_by(two, site_id, folder):
    path = folder / f"{site_id}.json"
    write(of_site(two.federation.site(site_id), None, "study", now=NOW), path)
    return path


@pytest.mark.ci
def test_both_sides_of_a_run_between_machines_agree(done, tmp_path):
    files = [signed_by(done, site_id, tmp_path) for site_id in SITES]
    found = of_run(done.home, "study", signed=files, now=NOW)
    assert [row["standing"] for row in found["sites"]] == ["signed", "signed"]
    assert [len(row["lines"]) for row in found["sites"]] == [3, 3]
    assert (found["agreement"], found["licence"]) == ("NORTH-2026/4", "CC-BY-NC-4.0")
    assert found["sites"][0]["agreement"] == "A-17"  # that of the site's own policy
    write(found, tmp_path / "record.json")
    for site_id in SITES:
        checked = check(done.federation.site(site_id), None, tmp_path / "record.json")
        assert checked["own"] == "agrees"
    kinds = [row.line.leaf["kind"] for row in departures_of(done.federation.place("oslo")).rows()]
    assert kinds.count("contribution") == 1


@pytest.mark.ci
def test_a_line_that_one_side_changed_is_found_by_the_other(done, tmp_path):
    files = [signed_by(done, site_id, tmp_path) for site_id in SITES]
    content = json.loads(files[0].read_bytes())
    content["lines"][1]["num_cases"] += 1
    files[0].write_bytes(canonical_json(content))
    with pytest.raises(TrustError, match="other lines"):
        of_run(done.home, "study", signed=files, now=NOW)
    found = of_run(done.home, "study", signed=files[1:], now=NOW)
    assert [row["standing"] for row in found["sites"]] == ["not signed", "signed"]
    found["sites"][1]["lines"][0]["num_cases"] += 1
    write(found, tmp_path / "record.json")
    with pytest.raises(TrustError, match="other lines"):
        check(done.federation.site("oslo"), None, tmp_path / "record.json")


@pytest.mark.ci
def test_a_site_whose_own_record_says_otherwise_is_named_with_the_round(
    done, tmp_path, monkeypatch
):
    from hospitium.operations import contribution

    honest = contribution._own_lines
    monkeypatch.setattr(contribution, "_own_lines", lambda *place: honest(*place)[1:])
    file = signed_by(done, "oslo", tmp_path)
    row = of_run(done.home, "study", signed=[file], now=NOW)["sites"][1]
    assert (row["standing"], row["differs"]) == ("differs", [1])


@pytest.mark.ci
def test_what_is_no_contribution_of_this_run_is_refused(done, tmp_path):
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(UsageError, match="no file that"):
        of_run(done.home, "study", signed=[tmp_path / "x.json"], now=NOW)
    with pytest.raises(UnknownRunError, match="Nothing was signed"):
        of_site(done.federation.site("oslo"), NAME, "another", now=NOW)
    file = signed_by(done, "oslo", tmp_path)
    content = {**json.loads(file.read_bytes()), "site_id": "bergen"}
    file.write_bytes(canonical_json(content))
    with pytest.raises(TrustError):
        of_run(done.home, "study", signed=[file], now=NOW)


@pytest.mark.ci
def test_every_update_of_a_run_between_machines_is_cosigned_and_proven_to_its_site(done):
    """The log, the sites' folders and their own records name the same things."""
    ledger = RunLedger(done.home.run("study"))
    tree, size = ledger.log.tree(), ledger.log.size
    assert size == show_run(done.home, "study")["log"]["entries"]
    received = [leaf for _, leaf in ledger.log.of("received")]
    assert len(received) == 6
    for leaf in received:
        place = done.federation.place(leaf["site_id"])
        key = place.signing_key().public
        envelope = base64.b64decode(leaf["cosignature"])
        said = open_cosignature(envelope, key, site_id=leaf["site_id"])
        assert said.root == tree.root(said.size).hex() and said.asked == said.size - 1
        origin = site_origin(NAME, leaf["site_id"])
        seen = open_checkpoint(leaf["checkpoint"], key, origin=origin)
        assert seen.root == departures_of(place).log.root(seen.size)
        left = {row.line.leaf["sha256"] for row in departures_of(place).rows()}
        assert hashlib.sha256(envelope).hexdigest() in left
    ledger.close()
    coordinator = VerifyKey.from_hex(place.members().coordinator_keys[0])
    for site_id in SITES:
        watched = WatchedRun(done.federation.place(site_id).folder / "work" / WATCH / "study")
        for number, proof in enumerate(watched.logged(), start=1):
            origin = coordinator_origin(NAME, "study")
            found = open_checkpoint(proof["checkpoint"], coordinator, origin=origin)
            data = proof["entry"].encode()
            verify_inclusion(
                leaf_hash(data),
                index=proof["n"],
                size=found.size,
                root=found.root,
                proof=[bytes.fromhex(text) for text in proof["proof"]],
            )
            assert json.loads(data)["round_number"] == number
        assert number >= 2 and watched.stopped() is None

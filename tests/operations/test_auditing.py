"""Whatever is changed in the record of one side is found, by us and by the offline verifier."""

import json
import sqlite3
from dataclasses import replace

import pytest
from audited import NAME, ORIGIN, ROUNDS, RUN, both, chained

from hospitium.operations.audit_bundles import NOTES, read_bundle
from hospitium.operations.auditing import (
    export_record,
    show_record,
    verify_bundles,
    verify_record,
)
from hospitium.operations.desks import coordinator_key, existing
from hospitium.site.keys import read_key
from hospitium.wire.canonical import canonical_json
from hospitium.wire.checkpoints import read_note, sign_checkpoint
from hospitium.wire.members import sign_members
from hospitium.wire.signing import SigningKey

OSLO = f"hospitium/{NAME}/oslo"


@pytest.fixture
def there(recorded, tmp_path):
    return recorded.copy(tmp_path / "there")


def found(there, tmp_path, *sides):
    """Return what both find, which is the same."""
    return both(there.bundles(*sides), tmp_path)


# --- nothing was changed -------------------------------------------------------------------------

SIDES = [("oslo",), ("bergen", "oslo"), ("coordinator",), ("bergen", "oslo", "coordinator")]


@pytest.mark.parametrize("sides", SIDES)
def test_records_that_nobody_touched_hold(recorded, tmp_path, sides):
    assert found(recorded, tmp_path, *sides) == set()


def test_a_record_is_shown_and_exported_and_read_back(recorded, tmp_path):
    home = recorded.home("oslo")
    shown = show_record(home, federation=None, run_id=None)
    assert [entry["n"] for entry in shown["entries"]] == list(range(shown["size"]))
    assert [entry["kind"] for entry in shown["entries"]][:4] == [
        "enrolment", "heartbeat", "update", "error",
    ]  # fmt: skip
    out = export_record(home, federation=NAME, run_id=None, out=tmp_path / "oslo.jsonl")
    rows = read_bundle(tmp_path / "oslo.jsonl")
    assert (out["entries"], out["origin"], out["holds"]) == (shown["size"], OSLO, True)
    assert verify_bundles([rows]) == []


def test_the_coordinator_signs_its_log_as_it_exports_it(there, tmp_path):
    home, out = there.federation.coordinator, tmp_path / "run.jsonl"
    found = export_record(home, federation=None, run_id=RUN, out=out)
    notes = [row["note"] for row in read_bundle(out) if row["record"] == "checkpoint"]
    assert found["holds"] and read_note(notes[-1])[0].size == found["entries"]


# --- a site's record -----------------------------------------------------------------------------


def edited(lines):
    return [*lines[:3], lines[3].replace(b'"bytes":', b'"bytes":1', 1), *lines[4:]]


def added(lines):
    return [*lines[:3], lines[2], *lines[3:]]


def unsigned(lines):
    value = json.loads(lines[-1])
    return [*lines, canonical_json({"leaf": value["leaf"]})]


AT_A_SITE = {
    "a byte": (lambda lines: edited(lines), 3),
    "a byte, and the chain mended": (lambda lines: chained(edited(lines)), 3),
    "a signature": (lambda lines: [*lines[:3], flipped(lines[3]), *lines[4:]], 3),
    "the last signature": (lambda lines: [*lines[:-1], flipped(lines[-1])], 7),
    "one taken away": (lambda lines: [*lines[:3], *lines[4:]], 3),
    "one taken away, and the chain mended": (lambda lines: chained([*lines[:3], *lines[4:]]), 3),
    "two in another order": (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], 3),
    "in another order, and the chain mended": (
        lambda lines: chained([*lines[:3], lines[4], lines[3], *lines[5:]]),
        3,
    ),
    "one put in": (lambda lines: added(lines), 3),
    "one put in, and the chain mended": (lambda lines: chained(added(lines)), 3),
    "one put in at the end": (lambda lines: chained(unsigned(lines)), 8),
    "other spaces": (lambda lines: [*lines[:3], lines[3].replace(b",", b", ", 1), *lines[4:]], 3),
    "rubbish": (lambda lines: [*lines[:3], b"\xff\xfe rubbish", *lines[4:]], 3),
    "the first": (lambda lines: [lines[0].replace(b'"bytes":', b'"bytes":1'), *lines[1:]], 0),
    "an entry without a time": (
        lambda lines: [*lines[:3], lines[3].replace(b'"time_utc"', b'"time_zzz"'), *lines[4:]],
        3,
    ),
}


def flipped(line):
    head, signature = line.split(b'"signature":"')
    changed = b"A" if signature[20:21] != b"A" else b"B"
    return head + b'"signature":"' + signature[:20] + changed + signature[21:]


def tamper(there, site_id, change):
    path = there.log(site_id) / "leaves.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in change(path.read_bytes().splitlines())))


@pytest.mark.parametrize("what", AT_A_SITE)
def test_a_change_of_a_sites_record_is_found_and_its_entry_named(there, tmp_path, what):
    change, n = AT_A_SITE[what]
    tamper(there, "oslo", change)
    assert (OSLO, "entry", n) in found(there, tmp_path, "oslo")


@pytest.mark.parametrize(("left", "n"), [(0, 0), (1, 2), (5, 5)])
def test_a_record_that_was_cut_short_is_found_by_what_lies_beside_it(there, tmp_path, left, n):
    """A heartbeat, entry 1, has nothing beside it."""
    tamper(there, "oslo", lambda lines: lines[:left])
    assert found(there, tmp_path, "oslo") >= {(OSLO, "truncated", n)}


def test_a_record_and_all_beside_it_cut_short_is_found_with_the_coordinators(there, tmp_path):
    tamper(there, "oslo", lambda lines: lines[:4])
    for folder in ("payloads", "receipts"):
        for path in (there.log("oslo") / folder).glob("*"):
            if int(path.name.split(".")[0]) >= 4:
                path.unlink()
    assert found(there, tmp_path, "oslo") == set()
    together = found(there, tmp_path, "oslo", "coordinator")
    assert (OSLO, "truncated", 4) in together
    assert {name for _, name, _ in together} == {"truncated", "gap"}


def test_other_bytes_beside_an_entry_and_a_receipt_for_something_else_are_found(there, tmp_path):
    payload = there.log("oslo") / "payloads" / "00000002"
    other = there.log("oslo") / "payloads" / "00000004"
    payload.write_bytes(other.read_bytes())
    assert found(there, tmp_path, "oslo") == {(OSLO, "payload", 2), (OSLO, "receipt", 2)}


@pytest.mark.parametrize(
    "change",
    [
        lambda receipt: receipt.replace(b"payload", b"Payload", 1),
        lambda receipt: receipt[:-40] + b"A" + receipt[-39:],
        lambda receipt: b"{}",
        lambda receipt: b"rubbish",
    ],
)
def test_a_receipt_that_was_changed_is_found(there, tmp_path, change):
    path = there.log("oslo") / "receipts" / "00000002.dsse"
    path.write_bytes(change(path.read_bytes()))
    assert found(there, tmp_path, "oslo") == {(OSLO, "receipt", 2)}


def test_a_member_list_that_was_changed_is_found(there, tmp_path):
    path = sorted((there.federation.place("oslo").folder / "members").glob("0*.dsse"))[1]
    path.write_bytes(path.read_bytes().replace(b'"sig":"', b'"sig":"A', 1))
    assert (OSLO, "members", 1) in found(there, tmp_path, "oslo")


# --- the coordinator's log -----------------------------------------------------------------------


def in_database(there, *statements):
    """Change the database as somebody can who has its file."""
    connection = sqlite3.connect(there.database())
    for name in ("a_log_has_no_gap", "a_log_entry_stays", "a_log_entry_is_kept"):
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


MOVE = "UPDATE log SET n = n {} WHERE n IN (SELECT n FROM log WHERE n > 6 ORDER BY n {})"
AT_THE_COORDINATOR = {
    "a byte": [
        "UPDATE log SET leaf = replace(leaf, '\"num_cases\":9', '\"num_cases\":8') WHERE n = 6"
    ],
    "one taken away": ["DELETE FROM log WHERE n = 6"],
    "one taken away, and renumbered": [
        "DELETE FROM log WHERE n = 6",
        "UPDATE log SET n = -n WHERE n > 6",
        "UPDATE log SET n = -n - 1 WHERE n < 0",
    ],
    "two in another order": [
        "UPDATE log SET n = 99 WHERE n = 6",
        "UPDATE log SET n = 6 WHERE n = 7",
        "UPDATE log SET n = 7 WHERE n = 99",
    ],
    "one put in": [
        "UPDATE log SET n = -n WHERE n > 5",
        "UPDATE log SET n = -n + 1 WHERE n < 0",
        "INSERT INTO log SELECT 6, leaf FROM log WHERE n = 5",
    ],
    "rubbish": ["UPDATE log SET leaf = 'rubbish' WHERE n = 6"],
}


@pytest.mark.parametrize("what", AT_THE_COORDINATOR)
def test_a_change_of_the_coordinators_log_is_found_and_placed(there, tmp_path, what):
    in_database(there, "DROP INDEX log_by_kind", *AT_THE_COORDINATOR[what])
    ours = found(there, tmp_path, "coordinator")
    first = min(n for origin, name, n in ours if name == "entry")
    assert 5 <= first <= 6, "the round in which it is: sites cosigned it before and after"


def test_a_coordinators_log_that_was_cut_short_is_found(there, tmp_path):
    in_database(there, "DELETE FROM log WHERE n >= 6")
    assert (ORIGIN, "truncated", 6) in found(there, tmp_path, "coordinator")


def test_a_coordinators_log_and_its_checkpoint_cut_short_is_found_by_a_site(there, tmp_path):
    in_database(there, "DELETE FROM log WHERE n >= 6")
    for path in (there.database().parent / NOTES).glob("*"):
        path.unlink()
    assert found(there, tmp_path, "coordinator") == set()
    together = found(there, tmp_path, "oslo", "coordinator")
    assert {name for origin, name, _ in together} >= {"fork", "gap"}


def another_history(there, site_id):
    """Show a site another checkpoint of the same size, signed by the coordinator."""
    key = coordinator_key(existing(there.federation.coordinator, NAME))
    seen = there.watched(site_id)
    other = replace(seen.checkpoint(), root=b"x" * 32)
    seen.remember(sign_checkpoint(other, key))
    return other.size


def test_two_histories_shown_to_two_sites_are_found_from_the_sites_alone(there, tmp_path):
    size = another_history(there, "oslo")
    ours = found(there, tmp_path, "bergen", "oslo")
    assert ours == {(f"hospitium/{NAME}/bergen", "fork", size)}


def test_a_history_that_a_site_was_shown_and_is_not_the_coordinators_is_found(there, tmp_path):
    size = another_history(there, "oslo")
    assert found(there, tmp_path, "oslo", "coordinator") == {(ORIGIN, "fork", size)}


def rubbish(note):
    return "rubbish"


def of_another_key(note):
    return sign_checkpoint(read_note(note)[0], SigningKey.from_bytes(b"z" * 32))


@pytest.mark.parametrize("change", [rubbish, of_another_key])
def test_a_checkpoint_beside_the_coordinators_log_that_was_changed_is_found(
    there, tmp_path, change
):
    (path,) = (there.database().parent / NOTES).glob("*.note")
    path.write_text(change(path.read_text("utf-8")), "utf-8")
    assert found(there, tmp_path, "coordinator")


@pytest.mark.parametrize("change", [rubbish, of_another_key])
def test_a_checkpoint_that_nobody_signed_accuses_nobody(there, tmp_path, change):
    """A site could make one up, to say that it was shown another history."""
    path = there.watched("oslo").folder / "seen.note"
    path.write_text(change(path.read_text("utf-8")), "utf-8")
    assert found(there, tmp_path, "bergen", "oslo", "coordinator") == set()


# --- between the two -----------------------------------------------------------------------------


def test_an_update_that_left_without_an_entry_is_found(there, tmp_path):
    """A site whose agent sent an update and then made its record anew, with its key, without it."""
    lines = (there.log("oslo") / "leaves.jsonl").read_bytes().splitlines()
    resign(there, "oslo", [line for line in lines if json.loads(line)["leaf"]["n"] not in (2, 3)])
    assert found(there, tmp_path, "oslo") == set()
    ours = found(there, tmp_path, "oslo", "coordinator")
    assert (ORIGIN, "gap", 3) in ours and "fork" in {name for _, name, _ in ours}


def resign(there, site_id, lines):
    """Write a site's record anew from some of its entries, as only who has the key can."""
    from hospitium.site.record import departures_of
    from hospitium.state.leaf_log import LeafLog

    folder = there.log(site_id)
    signer = departures_of(there.federation.place(site_id))._signer
    for path in [folder / "leaves.jsonl", *folder.glob("payloads/*"), *folder.glob("receipts/*")]:
        path.unlink()
    log = LeafLog(folder, signer=signer)
    for line in lines:
        leaf = json.loads(line)["leaf"]
        log.append({name: leaf[name] for name in leaf if name not in ("n", "before")})


def test_a_receipt_of_which_the_coordinator_has_no_entry_is_found(there, tmp_path):
    in_database(there, "DROP INDEX log_by_kind", "DELETE FROM log WHERE n >= 6")
    ours = found(there, tmp_path, "oslo", "coordinator")
    assert {n for origin, name, n in ours if (origin, name) == (OSLO, "gap")} == {4, 6}


def test_a_checkpoint_that_the_coordinator_made_up_for_a_site_is_found(recorded, tmp_path):
    site, run = recorded.bundles("oslo", "coordinator")
    run = [row for row in run if row["record"] != "checkpoint"]
    row = [row for row in run if '"kind":"received"' in row.get("line", "")][-1]
    leaf = json.loads(row["line"])
    leaf["checkpoint"] = of_another_key(leaf["checkpoint"])
    row["line"] = canonical_json(leaf).decode()
    assert both([site, run], tmp_path) == {(ORIGIN, "entry", row["n"])}


def test_two_member_lists_of_one_epoch_that_officers_signed_are_found(recorded, tmp_path):
    site, run = recorded.bundles("oslo", "coordinator")
    desk = existing(recorded.federation.coordinator, NAME)
    members = desk.members()
    officer = read_key(desk.folder / "keys" / "officer.key", purpose="officer", federation=NAME)
    other = sign_members(replace(members, valid_until="2999-01-01T00:00:00Z"), officer)
    [row for row in run if row["record"] == "members"][-1]["envelope"] = other.decode()
    assert both([site, run], tmp_path) == {(OSLO, "members", members.members_epoch)}


# --- clocks --------------------------------------------------------------------------------------


def at(line, time):
    value = json.loads(line)
    value["leaf"]["time_utc"] = time
    return canonical_json(value)


def test_a_clock_that_was_set_back_is_found_though_everything_is_signed(there, tmp_path):
    lines = (there.log("oslo") / "leaves.jsonl").read_bytes().splitlines()
    late = [*lines[:3], at(lines[3], "2999-01-01T00:00:00Z"), *lines[4:]]
    resign(there, "oslo", late)
    assert found(there, tmp_path, "oslo") == {(OSLO, "clock", 4)}


def test_a_clock_that_is_days_off_the_coordinators_is_found(there, tmp_path):
    lines = (there.log("oslo") / "leaves.jsonl").read_bytes().splitlines()
    resign(there, "oslo", [at(line, f"2020-01-01T00:00:{n:02d}Z") for n, line in enumerate(lines)])
    ours = found(there, tmp_path, "oslo", "coordinator")
    assert {(OSLO, "clock", n) for n in (2, 4, 6)} <= ours
    assert "clock" not in {name for _, name, _ in found(there, tmp_path, "oslo")}


# --- words ---------------------------------------------------------------------------------------


def test_what_does_not_hold_is_said_with_its_first_entry(there):
    tamper(there, "oslo", edited)
    told = verify_record(there.home("oslo"), federation=None, run_id=None)
    assert not told["holds"] and told["findings"][0]["n"] == 3
    assert set(told["findings"][0]) == {"origin", "name", "n", "words"}


def test_the_rounds_of_the_test_are_as_many_as_it_says(recorded):
    entries = show_record(recorded.federation.coordinator, federation=None, run_id=RUN)["entries"]
    assert sum(entry["kind"] == "round_closed" for entry in entries) == ROUNDS

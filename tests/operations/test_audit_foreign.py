"""Records of somebody who wants no result: both verifiers end with findings, never without."""

import json

import pytest
from audited import ORIGIN, VERIFIER, both

from hospitium.operations.auditing import verify_bundles
from hospitium.wire.canonical import canonical_json


def with_leaf(rows, **facts):
    """Return the coordinator's rows with one more entry, which nobody signed."""
    leaves = [row for row in rows if row["record"] == "leaf"]
    last = json.loads(leaves[-1]["line"])
    leaf = {"kind": "received", "time_utc": last["time_utc"], "site_id": "oslo", **facts}
    line = canonical_json({k: v for k, v in leaf.items() if v is not None}).decode()
    return [*rows, {"record": "leaf", "n": len(leaves), "line": line}]


ENTRIES = {
    "a time without zone": {"kind": "finished", "time_utc": "2026-11-21T12:00:00"},
    "no round": {"digest": "0" * 64},
    "a list as digest": {"round_number": 1, "digest": []},
    "a list as round": {"kind": "left_out", "round_number": []},
    "a number as checkpoint": {"round_number": 1, "digest": "0" * 64, "checkpoint": 5},
    "the end of time": {"kind": "finished", "time_utc": "9999-12-31T23:59:59Z"},
    "the beginning of time": {"kind": "finished", "time_utc": "0001-01-01T00:00:00Z"},
}


def of_both(bundles, folder):
    """Return the names of findings, which are the same; neither verifier raises."""
    paths = [folder / f"{n}.jsonl" for n in range(len(bundles))]
    for rows, path in zip(bundles, paths, strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "ascii")
    read = VERIFIER.verified([str(path) for path in paths])
    ours = {(it.origin, it.name) for it in verify_bundles(bundles)}
    assert {(bundle.origin, name) for bundle in read for name, _, _ in bundle.found} == ours
    return ours


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_in_no_form_ends_no_audit(recorded, tmp_path, name):
    site, run = recorded.bundles("oslo", "coordinator")
    twice = with_leaf(with_leaf(run, **ENTRIES[name]), kind="finished")
    found = of_both([site, twice], tmp_path)
    assert found or name == "the end of time"
    assert all(origin in (ORIGIN, site[0]["origin"]) for origin, _ in found)


ROWS = {
    "text as number": {"record": "departed", "n": "0", "statement": "", "receipt": ""},
    "no statement": {"record": "departed", "n": 0, "receipt": ""},
    "half a letter": {"record": "leaf", "n": 0, "line": "\ud800"},
    "nothing seen": {"record": "seen"},
    "no checkpoint": {"record": "checkpoint"},
    "no list": {"record": "members", "envelope": 7},
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("side", ["oslo", "coordinator"])
def test_a_row_in_no_form_ends_no_audit(recorded, tmp_path, side, name):
    (rows,) = recorded.bundles(side)
    found = of_both([[rows[0], ROWS[name], *rows[1:]]], tmp_path)
    assert found or name == "nothing seen"


def test_a_key_that_is_none_in_the_head_is_found(recorded, tmp_path):
    (rows,) = recorded.bundles("oslo")
    rows = [row for row in rows if row["record"] != "members"]
    rows[0]["key"] = "no key"
    assert of_both([rows], tmp_path)


def test_numbers_that_are_none_and_checkpoints_of_no_size_are_found(recorded, tmp_path):
    (rows,) = recorded.bundles("coordinator")
    note = next(row for row in rows if row["record"] == "checkpoint")["note"].split("\n")
    less = {"record": "checkpoint", "note": "\n".join([note[0], "-5", *note[2:]])}
    assert (ORIGIN, "truncated") in of_both([[*rows, less]], tmp_path)
    (rows,) = recorded.bundles("coordinator")
    leaves = [row for row in rows if row["record"] == "leaf"]
    line = '{"kind":"finished","time_utc":"2026-11-21T12:00:00Z","x":NaN}'
    new = {"record": "leaf", "n": len(leaves), "line": line}
    assert (ORIGIN, "entry") in of_both([[*rows, new]], tmp_path)


def test_what_a_liar_writes_does_not_hide_what_is_wrong_elsewhere(recorded, tmp_path):
    site, run = recorded.bundles("oslo", "coordinator")
    cut = [row for row in run if "received" not in row.get("line", "")]
    assert both([site, run], tmp_path) == set()
    liar = [cut[0], {"record": "seen"}, {"record": "members", "envelope": 7}, *cut[1:]]
    assert {name for _, name in of_both([site, liar], tmp_path)} >= {"entry"}

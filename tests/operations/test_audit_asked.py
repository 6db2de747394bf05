"""Two models, plans, lists or sets of sites in one round are found, by us and by the verifier."""

import ast
import base64
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from audited import NAME, ORIGIN, ROUNDS, RUN, SITES, VERIFIER, both, record

from hospitium.operations.desks import existing
from hospitium.site.keys import read_key
from hospitium.wire.canonical import canonical_json
from hospitium.wire.cosignatures import Asking, cosign, open_cosignature
from hospitium.wire.members import sign_members

BERGEN, OSLO = (f"hospitium/{NAME}/{site_id}" for site_id in SITES)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return record(tmp_path_factory.mktemp("split"), split=True)


def entries(rows):
    """Return each entry of a bundle with its row."""
    found = [(row, json.loads(row["line"])) for row in rows if row["record"] == "leaf"]
    return [(row, value.get("leaf", value)) for row, value in found]


def number_of(rows, **facts):
    """Return the number of the last entry of which these facts are so."""
    return max(
        n
        for n, (_, leaf) in enumerate(entries(rows))
        if all(leaf.get(name) == value for name, value in facts.items())
    )


# --- a split model -------------------------------------------------------------------------------


@pytest.mark.ci
def test_a_split_model_in_the_last_round_is_found_in_the_coordinators_log_alone(split, tmp_path):
    bundles = split.bundles("coordinator")
    second = number_of(bundles[0], kind="asked", round_number=ROUNDS)
    assert both(bundles, tmp_path) == {(ORIGIN, "split", second)}


@pytest.mark.ci
def test_a_split_model_is_found_from_the_records_of_two_sites_alone(split, tmp_path):
    for site_id in SITES:
        assert both(split.bundles(site_id), tmp_path) == set(), "one site was asked but once"
    bundles = split.bundles(*SITES)
    last = number_of(bundles[0], kind="update", round_number=ROUNDS)
    assert both(bundles, tmp_path) == {(BERGEN, "split", last)}


@pytest.mark.ci
def test_a_split_model_is_found_by_the_site_whose_model_the_log_names_second(split, tmp_path):
    bundles = split.bundles("oslo", "coordinator")
    last = number_of(bundles[0], kind="update", round_number=ROUNDS)
    assert (OSLO, "split", last) in both(bundles, tmp_path)


@pytest.mark.parametrize("name", ["base_digest", "plan_digest"])
def test_two_askings_of_one_round_in_one_record_are_of_one_model_and_plan(recorded, tmp_path, name):
    (rows,) = recorded.bundles("coordinator")
    n = number_of(rows, kind="asked")
    after = [row for row in rows if row["record"] == "leaf"][-1]
    leaf = {**entries(rows)[n][1], name: "9" * 64, "time_utc": entries(rows)[-1][1]["time_utc"]}
    new = {"record": "leaf", "n": after["n"] + 1, "line": canonical_json(leaf).decode()}
    assert both([[*rows, new]], tmp_path) == {(ORIGIN, "split", new["n"])}


@pytest.mark.parametrize("change", [{"members_digest": "9" * 64}, {"sites": ["bergen"]}])
def test_another_member_list_or_set_of_sites_in_mid_round_is_no_split(recorded, tmp_path, change):
    (rows,) = recorded.bundles("coordinator")
    n = number_of(rows, kind="asked")
    leaf = {**entries(rows)[n][1], **change, "time_utc": entries(rows)[-1][1]["time_utc"]}
    new = {"record": "leaf", "n": len(entries(rows)), "line": canonical_json(leaf).decode()}
    assert both([[*rows, new]], tmp_path) == set()


def test_one_site_that_was_given_two_models_in_a_round_says_so_itself(recorded, tmp_path):
    """Both updates of its record are of one round then; who signs it can write that."""
    (rows,) = recorded.bundles("oslo")
    n = number_of(rows, kind="update")
    value = json.loads(entries(rows)[n][0]["line"])
    value["leaf"]["round_number"] = ROUNDS - 1
    entries(rows)[n][0]["line"] = canonical_json(value).decode()
    assert (OSLO, "split", n) in both([rows], tmp_path)


# --- what is cosigned is what was asked ----------------------------------------------------------


def with_cosignature(recorded, change):
    """Return the coordinator's log with another cosignature of oslo in its last answer.

    Oslo signs it; nothing else proves that entry, as the coordinator's checkpoint is left out.
    """
    (rows,) = recorded.bundles("coordinator")
    rows = [row for row in rows if row["record"] != "checkpoint"]
    n = number_of(rows, kind="received", site_id="oslo")
    row, leaf = entries(rows)[n]
    key = recorded.federation.place("oslo").signing_key()
    envelope = base64.b64decode(leaf["cosignature"])
    said = open_cosignature(envelope, key.public, site_id="oslo")
    asked = [each for _, each in entries(rows)]
    asking = replace(Asking.of(asked[said.asked]), **change)
    signed = cosign(
        asking, said.checkpoint, asked=said.asked, site_id="oslo", key=key, time=said.time
    )
    leaf["cosignature"] = base64.b64encode(signed).decode()
    row["line"] = canonical_json(leaf).decode()
    return rows, n


@pytest.mark.parametrize(
    "change",
    [
        {"base_digest": "9" * 64},
        {"plan_digest": "9" * 64},
        {"members_digest": "9" * 64},
        {"sites": ("bergen", "oslo", "turin")},
        {"round_number": ROUNDS - 1},
        {"purpose": "score"},
        {"run_id": f"{RUN}-2"},
    ],
)
def test_a_cosignature_of_something_else_than_was_asked_is_found(recorded, tmp_path, change):
    rows, n = with_cosignature(recorded, change)
    assert both([rows], tmp_path) == {(ORIGIN, "split", n)}


def test_a_cosignature_of_exactly_what_was_asked_holds(recorded, tmp_path):
    rows, _ = with_cosignature(recorded, {})
    assert both([rows], tmp_path) == set()


# --- member lists, and the verifier itself -------------------------------------------------------


def test_two_sites_that_were_given_two_member_lists_of_one_epoch_find_it(recorded, tmp_path):
    bergen, oslo = recorded.bundles(*SITES)
    desk = existing(recorded.federation.coordinator, NAME)
    members = desk.members()
    officer = read_key(desk.folder / "keys" / "officer.key", purpose="officer", federation=NAME)
    other = sign_members(replace(members, valid_until="2999-01-01T00:00:00Z"), officer)
    [row for row in oslo if row["record"] == "members"][-1]["envelope"] = other.decode()
    assert both([bergen, oslo], tmp_path) == {(BERGEN, "members", members.members_epoch)}


def test_the_verifier_is_one_short_file_that_needs_little():
    text = Path(VERIFIER.__file__).read_text("utf-8")
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    used = {str(node.module).partition(".")[0] for node in found} - sys.stdlib_module_names
    assert len(text.splitlines()) <= 250 and used == {"cryptography"}

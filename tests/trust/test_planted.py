"""Nothing that a hospital's data say, and no key, is found anywhere outside: a whole run, searched.

Every text of the DICOM files, their names and folders, the table of labels, the name of the data
set, the site's own home folder and its policy hold strings that were drawn for the test. Then all
that the sites sent, all that the coordinator has, and every entry of the sites' records are
searched for them, also inside base64, hexadecimal and databases.
"""

import base64
import io
import json
import logging
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime

import pytest
from between_machines import Between
from carried import NAME
from planting import Planted, Wire, everything_in, layers, secrets_of, write_hospital
from tiny import tiny_plan

from hospitium.operations.approving import approve_data
from hospitium.operations.audit_bundles import run_bundle, site_bundle
from hospitium.operations.auditing import show_record
from hospitium.operations.contribution import of_run, of_site
from hospitium.operations.leaving import list_departures, show_departure
from hospitium.operations.site_data import add_data_set

SITES = ("bergen", "oslo")


def plant_at(machines, site_id, planted, folder, *, seed):
    """Give a site data, a policy and a name for its data that are full of planted strings."""
    home = machines.federation.site(site_id)
    data, table = write_hospital(folder / planted.text("folder of the data"), planted, seed=seed)
    name = planted.text("name of the data set")
    add_data_set(home, name, data, labels=table)
    policy = machines.federation.place(site_id).folder / "policy.toml"
    text = policy.read_text().replace("Ola Nordmann", planted.text("approver who did not approve"))
    text = text.replace("[allow]", "[allow]\nmin_sites = 1")
    policy.write_text(f"# {planted.text('comment of the policy')}\n{text}")
    return name


def approve_on(machines, site_id, plan, data):
    machines.exchange(site_id)
    approve_data(
        machines.federation.site(site_id), NAME, plan.digest, approver="Kari Nordmann", data=data,
        now=datetime.now(UTC),
    )  # fmt: skip
    machines.exchange(site_id)


def spoil(machines, site_id, plan):
    """Let a site's work fail in a way whose message names a path."""
    folder = machines.federation.place(site_id).cases(plan.digest)
    for path in folder.iterdir():
        path.write_bytes(b"spoilt")


@pytest.mark.ci
@pytest.mark.parametrize("seed", [1])
def test_no_planted_string_and_no_key_leaves_a_site(tmp_path, pool, monkeypatch, caplog, seed):
    wire, planted = Wire(monkeypatch), Planted(seed)
    caplog.set_level(logging.DEBUG)
    place = tmp_path / planted.text("folder of the installation")
    place.mkdir()
    said = io.StringIO()
    with (
        redirect_stdout(said),
        redirect_stderr(said),
        Between(place, pool, site_ids=list(SITES)) as machines,
    ):
        machines.up()
        plan = machines.offer(tiny_plan(rounds=2, quorum=1, batching="equal"))
        for number, site_id in enumerate(SITES):
            name = plant_at(machines, site_id, planted, tmp_path / site_id, seed=number)
            approve_on(machines, site_id, plan, name)
        spoil(machines, "bergen", plan)
        machines.attend(*SITES)
        machines.start(plan)
        found = machines.finished()
        secrets = secrets_of(place)
        machines.events.append({"text": repr(found)})
    assert len(planted.texts) > 2000 and len(secrets) >= 5
    outside = {
        "sent": b"\n".join(wire.sent),
        "answered": b"\n".join(wire.answered),
        "said": said.getvalue().encode() + repr(machines.events).encode(),
        "logged": caplog.text.encode(),
        **{f"coordinator: {name}": data for name, data in everything_in(machines.home.folder)},
        **records(place),
        **handed_over(machines),
    }
    assert sum(": departure" in name for name in outside) > 10
    assert sum(name.startswith("record of") for name in outside) >= 2
    assert any("bergen" in row["site_id"] for r in found["participation"] for row in r["left_out"])
    own = {"folder of the installation"}  # the coordinator of the test lives in that folder too
    leaks = {name: planted.found_in(data) - own for name, data in outside.items()}
    assert {name: what for name, what in leaks.items() if what} == {}
    assert keys_in(outside, secrets) == []
    for site_id in SITES:
        others = {name: key for name, key in secrets.items() if site_id not in name}
        assert keys_in(dict(everything_in(place / site_id)), others) == []


def records(place):
    """Return what each site's own record says of what left."""
    return {
        f"record of {path.relative_to(place)}": path.read_bytes()
        for site_id in SITES
        for path in sorted((place / site_id).rglob("*.jsonl"))
        if "index" not in path.name
    }


def handed_over(machines):
    """Return all that is made of the records for other people: exports, lists, statements."""
    now, centre, found = datetime.now(UTC), machines.federation.coordinator, {}
    for site_id in SITES:
        home = machines.federation.site(site_id)
        rows = list_departures(home, NAME, now=now)
        found[f"{site_id}: egress list"] = rows
        for row in rows:
            shown = show_departure(home, NAME, row["n"], now=now)
            found[f"{site_id}: departure {row['n']}"] = shown
        found[f"{site_id}: audit show"] = show_record(home, federation=NAME, run_id=None)
        found[f"{site_id}: audit export"] = site_bundle(home, NAME)
    found["oslo: contribution"] = of_site(machines.federation.site("oslo"), NAME, "study", now=now)
    found["contributions"] = of_run(centre, "study", signed=[], now=now)
    found["audit show"] = show_record(centre, federation=None, run_id="study")
    found["audit export"] = run_bundle(centre, "study")
    return {name: json.dumps(value, ensure_ascii=False).encode() for name, value in found.items()}


def keys_in(places, secrets):
    """Return where the bytes of a key are found; a key's own file is no place."""
    found = []
    for name, data in places.items():
        pieces = list(layers(data))
        found += [
            (name, key)
            for key, secret in secrets.items()
            if not key.endswith(name.removeprefix("coordinator: "))
            and any(secret in piece or secret.hex().encode() in piece for piece in pieces)
        ]
    return found


def test_the_search_finds_what_is_hidden_in_layers():
    planted = Planted(7)
    text = planted.text("a name", accents=True)
    inner = base64.b64encode(json.dumps({"n": text}).encode())
    outer = base64.b64encode(b'{"payload":"' + inner + b'"}')
    for data in (text.encode(), inner, outer, text.upper().encode(), text.encode().hex().encode()):
        assert planted.found_in(b"before " + data + b" after") == {"a name"}
    assert planted.found_in(b"nothing of it") == set()


def test_a_key_is_found_in_any_form():
    secret = bytes(range(100, 132))
    for data in (secret, secret.hex().encode(), base64.b64encode(secret)):
        assert keys_in({"x": b"before " + data + b" after"}, {"k": secret}) == [("x", "k")]

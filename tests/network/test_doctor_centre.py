"""Doctor at the coordinating centre, at what its hub really serves; and on the way of an invite."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from carried import NAME
from doctored import Doctored

from hospitium.operations.coordinating import invite_site
from hospitium.operations.desks import existing
from hospitium.operations.doctor import Wishes, examine_coordinator, examine_site
from hospitium.operations.doctor_coordinator import check_coordinator
from hospitium.operations.doctor_way import check_invite

pytestmark = pytest.mark.ci


def now():
    return datetime.now(UTC)


@pytest.fixture
def centre(tmp_path):
    made = Doctored(folder=tmp_path)
    yield made
    made.stop()


def found(centre):
    home = centre.federation.coordinator
    checks = check_coordinator(home, existing(home, NAME), now=now())
    return {check.name: check for check in checks}


def test_a_hub_that_serves_is_well(centre):
    checks = found(centre.serve())
    assert {name: check.status for name, check in checks.items()} == dict.fromkeys(checks, "PASS")
    assert "issued by Centre of the north for localhost" in checks["certificate"].found


def test_a_hub_that_does_not_run_leaves_its_port_free(centre):
    checks = found(centre)
    assert checks["port"].status == "WARN" and "coordinator up" in checks["port"].remedy
    assert checks["certificate"].status == "PASS"  # of the file that was given


def test_a_certificate_that_expires_has_expired_or_is_for_another_name(tmp_path):
    for number, (days, named, status, words) in enumerate(
        [
            (380, "", "WARN", "good until"),
            (500, "", "FAIL", "today it is not"),
            (0, "elsewhere.example.org", "FAIL", "not for localhost"),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        centre = Doctored(folder=folder, made=now() - timedelta(days=days), named=named).serve()
        check = found(centre)["certificate"]
        centre.stop()
        assert (check.status, words in check.found) == (status, True), check


def test_the_whole_report_of_both_sides_reads_as_json_and_holds_no_secret(centre):
    centre.serve()
    home = centre.federation.coordinator
    told = json.dumps(examine_coordinator(home, Wishes(), now=now))
    told += json.dumps(examine_site(centre.home, Wishes(), now=now))
    place = centre.federation.place("oslo")
    for key in (place.signing_key(), place.request_key()):
        assert key.to_bytes().hex() not in told
    assert '"FAIL"' not in told, told


def test_the_way_of_an_invite_is_tried_and_the_invite_stays_good(centre):
    centre.serve()
    out = centre.folder / "bergen.invite"
    invite_site(centre.federation.coordinator, NAME, "bergen", out=out, now=now())
    for _ in range(2):
        checks = check_invite(out, Wishes(hop_s=2.0), now=now)
        statuses = {check.name: check.status for check in checks}
        assert statuses.pop("connect") == "SKIP"
        assert set(statuses.values()) == {"PASS"}
        assert set(statuses) == {"invite", "proxy", "dns", "tcp", "tls", "hub", "clock"}
    centre.stop()
    checks = {check.name: check for check in check_invite(out, Wishes(hop_s=2.0), now=now)}
    assert checks["tcp"].status == "FAIL" and checks["hub"].status == "SKIP"

"""Egress lets suppressed fingerprints out, and nothing that only looks like one."""

import pytest

from hospitium.errors import SiteError
from hospitium.imaging.fingerprint.data import fingerprint_of
from hospitium.imaging.fingerprint.release import suppress, to_bytes
from hospitium.site.departures import Departures
from hospitium.site.egress import Egress

GOOD = to_bytes(suppress(fingerprint_of([{"sex": "F"}] * 30)))


@pytest.fixture
def egress(tmp_path):
    return Egress(Departures(tmp_path / "log"), destination="a person")


def test_a_fingerprint_is_recorded_and_written(tmp_path, egress):
    egress.hand_over_fingerprint(GOOD, path=tmp_path / "out.json")
    assert (tmp_path / "out.json").read_bytes() == GOOD == egress.departures.payload(0)
    (row,) = egress.departures.rows()
    assert row.line.leaf["fields"] == ["sex"] and row.line.leaf["bytes"] == len(GOOD)


@pytest.mark.parametrize(
    "payload", [b"", b"{}", GOOD.replace(b"30", b"7"), GOOD.replace(b'"F"', b'"Jane Doe"')]
)
def test_nothing_else_leaves_and_nothing_is_recorded(tmp_path, egress, payload):
    with pytest.raises(SiteError, match="egress refused"):
        egress.hand_over_fingerprint(payload, path=tmp_path / "o")
    assert list(tmp_path.iterdir()) == []

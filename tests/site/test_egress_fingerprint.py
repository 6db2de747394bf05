"""Egress lets suppressed fingerprints out, and nothing that only looks like one."""

import json

import pytest

from hospitium.errors import SiteError
from hospitium.imaging.fingerprint.data import fingerprint_of
from hospitium.imaging.fingerprint.release import suppress, to_bytes
from hospitium.site.egress import hand_over_fingerprint

GOOD = to_bytes(suppress(fingerprint_of([{"sex": "F"}] * 30)))


def test_a_fingerprint_is_recorded_and_written(tmp_path):
    hand_over_fingerprint(GOOD, path=tmp_path / "out.json", record=tmp_path / "egress.jsonl")
    assert (tmp_path / "out.json").read_bytes() == GOOD
    assert json.loads((tmp_path / "egress.jsonl").read_bytes())["fields"] == ["sex"]


@pytest.mark.parametrize(
    "payload", [b"", b"{}", GOOD.replace(b"30", b"7"), GOOD.replace(b'"F"', b'"Jane Doe"')]
)
def test_nothing_else_leaves_and_nothing_is_recorded(tmp_path, payload):
    with pytest.raises(SiteError, match="egress refused"):
        hand_over_fingerprint(payload, path=tmp_path / "o", record=tmp_path / "egress.jsonl")
    assert list(tmp_path.iterdir()) == []

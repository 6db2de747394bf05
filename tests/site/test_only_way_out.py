"""Nothing at a site sends on the line to the coordinator but `site/egress.py`."""

import ast
from pathlib import Path

from hospitium.engines.hub.client import HubClient
from hospitium.operations.site_answering import view_of
from hospitium.site.leaving import FORMS, Channel
from hospitium.state.home import Home

SOURCE = Path(__file__).parents[2] / "src" / "hospitium"
SENDS = ("send", "upload", "say", "enrol", "beat")
LINES = ("client", "_client", "channel", "line", "transport", "_transport")
"""What a line to the coordinator is called in our code."""

ALLOWED = {
    "site/egress.py": set(SENDS),
    # The membership's connection: its methods of the same names go through egress.
    "operations/enrolment.py": {"say", "enrol"},
    "operations/site_attending.py": {"beat"},
}


def calls(path):
    """Yield the name of each method that is called on what is called like a line."""
    text = path.read_text("utf-8")
    if not any(f".{name}" in text for name in SENDS):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            on = node.func.value
            name = on.attr if isinstance(on, ast.Attribute) else getattr(on, "id", "")
            if node.func.attr in SENDS and name in LINES:
                yield node.func.attr


def test_a_line_has_exactly_these_ways_to_send():
    ways = {name for kind in Channel.__mro__ for name in vars(kind) if not name.startswith("_")}
    assert ways == set(SENDS)
    assert all(callable(getattr(HubClient, name)) for name in SENDS)


def test_only_egress_sends():
    found = {path.relative_to(SOURCE).as_posix(): set(calls(path)) for path in SOURCE.rglob("*.py")}
    assert {name: sends for name, sends in found.items() if sends} == ALLOWED


def test_no_entry_has_room_for_a_free_text():
    texts = {"run_id", "approved_by", "sums", "public", "day", "fields"}
    leaving = [form for kind, form in FORMS.items() if kind != "resumed"]  # that stays, a person's
    checked = {name: check for form in leaving for name, check in form.facts.items()}
    for name, check in checked.items():
        accepts = check("any text at all") or check(["any text at all"])
        assert not accepts or name in texts


def test_what_trains_sees_neither_the_keys_nor_the_record(tmp_path):
    place = tmp_path / "site" / "federations" / "north"
    for name in ("keys", "log", "work"):
        (place / name).mkdir(parents=True)
    assert view_of(Home(tmp_path)).hidden == (place / "keys", place / "log")

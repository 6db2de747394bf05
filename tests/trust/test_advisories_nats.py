"""Other people's advisories, a test for each class of fault, on our own code: NATS.

They are a lint of the documented configuration, with which ``test_nats.py`` runs a server.

The rows are those of the regression list of the project's specification of trust, in its order.
"""

import re

import pytest
from own_code import ROOT

from hospitium.engines.hub.nats_settings import require_version
from hospitium.errors import (
    EngineError,
)

NATS_PAGE = (ROOT / "docs" / "how-to" / "run-a-nats-cluster.md").read_text(encoding="utf-8")


def nats_configuration():
    """Return the configuration of a server, without comments."""
    block = re.search(r"```text\nserver_name:.*?```", NATS_PAGE, re.DOTALL)[0]
    return re.sub(r"#.*", "", block)


def nats_problems(text):
    """Return what a configuration must not have."""
    forbidden = (
        "websocket", "mqtt", "leafnodes", "leaf", "no_auth_user", "http_port", "https_port",
        "http:", "monitor_port", "compression", "verify_and_map", "gateway", "accounts",
        "system_account",
        "operator", "resolver", "queue", "allow_responses", "password", "token:",
    )  # fmt: skip
    found = [word for word in forbidden if word in text.lower()]
    subjects = re.findall(r'"([^"]*(?:>|\*)[^"]*)"', text)
    too_wide = {">", "*", "$JS.>", "$JS.API.>", "$SYS.>", "$JS.API.STREAM.RESTORE.*", "_INBOX.*"}
    found += [subject for subject in subjects if subject in too_wide]
    found += [s for s in subjects if s.startswith("$") and re.search("RESTORE|SNAPSHOT|DELETE", s)]
    needed = ("sync_interval: always", "verify: true", "tls {", "nkey:")
    return found + [f"without {word}" for word in needed if word not in text]


def test_rights_that_cross_accounts():
    """NATS CVE-2025-30215, CVE-2026-33222: nobody may restore, and a site has no rights at all."""
    text = nats_configuration()
    assert nats_problems(text) == []
    for subject in ("$JS.>", "$JS.API.STREAM.RESTORE.*", ">"):
        assert nats_problems(f'{text}\npublish: ["{subject}"]')


@pytest.mark.parametrize("found", ["2.10.27", "2.12.11", "2.13.9", "2.14.2", "", "nightly"])
def test_a_crash_before_login(found):
    """NATS CVE-2026-27571 and others: a floor of versions, and no listener of that kind."""
    with pytest.raises(EngineError):
        require_version(found)
    for planted in ("websocket { port: 443 }", "leafnodes { port: 7422 }", "compression: s2_fast"):
        assert nats_problems(f"{nats_configuration()}\n{planted}")


@pytest.mark.parametrize(
    "planted",
    ["verify_and_map: true", 'no_auth_user: "a"', "mqtt { port: 1883 }", "accounts { a: {} }",
     "http_port: 8222", 'deny: ["a queue"]'],
)  # fmt: skip
def test_names_mapped_users_assumed_and_queues_denied(planted):
    """NATS CVE-2026-33248, CVE-2026-33246, CVE-2023-47090 and others: none of these features."""
    assert nats_problems(nats_configuration()) == []
    assert nats_problems(f"{nats_configuration()}\n{planted}")

import threading

import pytest
from carried import NAME, Federation

from hospitium.engines.hub.local import LocalBackend
from hospitium.engines.hub.nats_settings import NatsSettings, seed_text
from hospitium.errors import KeyFileError, UsageError
from hospitium.operations import hub_storage
from hospitium.operations.desks import existing
from hospitium.operations.replicating import serve_replica
from hospitium.wire.signing import SigningKey

URLS = 'urls = ["tls://nats-1:4222", "tls://nats-2:4222"]\n'


@pytest.fixture
def desk(tmp_path):
    return existing(Federation(folder=tmp_path).begin().coordinator, NAME)


@pytest.fixture
def opened(monkeypatch):
    """Return what a backend would be opened with; there is no cluster here."""
    found = []
    monkeypatch.setattr(hub_storage, "open_backend", lambda kind, folder, **more: found.append(
        (kind, folder.name, more.get("nats"))
    ))  # fmt: skip
    return found


def test_without_a_file_the_hub_keeps_all_in_its_folder(desk):
    backend = hub_storage.backend_of(desk)
    assert isinstance(backend, LocalBackend) and (desk.folder / "hub" / "hub.sqlite").is_file()
    backend.close()


def test_the_file_names_the_cluster_and_paths_are_seen_from_its_folder(desk, opened):
    key = SigningKey.generate()
    (desk.folder / "hub.nk").write_text(seed_text(key))
    (desk.folder / "hub.nk").chmod(0o600)
    text = URLS + 'ca_file = "ca.pem"\nkey_file = "hub.nk"\nmax_gb = 0.5\n'
    (desk.folder / "nats.toml").write_text(text)
    hub_storage.backend_of(desk, folder="replica")
    [(kind, folder, settings)] = opened
    assert (kind, folder) == ("nats", "replica")
    assert settings.urls == ("tls://nats-1:4222", "tls://nats-2:4222") and settings.name == NAME
    assert settings.ca_file == desk.folder / "ca.pem" and settings.max_bytes == 1 << 29
    assert settings.key.to_bytes() == key.to_bytes()


def test_what_it_does_not_say_is_as_usual(desk, opened):
    (desk.folder / "nats.toml").write_text(URLS)
    hub_storage.backend_of(desk)
    assert opened[0][2] == NatsSettings(urls=("tls://nats-1:4222", "tls://nats-2:4222"), name=NAME)


@pytest.mark.parametrize(
    "text",
    [
        "", "urls = []", 'urls = "tls://a:1"', 'urls = ["a"]', "urls = [1]", "][",
        URLS + "ca_file = 3", URLS + "max_gb = -1", URLS + "max_gb = true",
        URLS + 'key_file = ""', URLS + "user = 1",
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_refused_with_what_it_may_hold(desk, opened, text):
    (desk.folder / "nats.toml").write_text(text)
    with pytest.raises(UsageError, match=r"nats\.toml.*expected urls .*Nothing was started"):
        hub_storage.backend_of(desk)
    assert not opened


def test_a_key_that_is_not_there_is_said(desk, opened):
    (desk.folder / "nats.toml").write_text(URLS + 'key_file = "hub.nk"\n')
    with pytest.raises(KeyFileError):
        hub_storage.backend_of(desk)
    assert not opened


def test_a_replica_without_a_cluster_is_refused(tmp_path):
    home = Federation(folder=tmp_path).begin().coordinator
    with pytest.raises(UsageError, match=r"No federation .* Name the cluster in nats\.toml"):
        serve_replica(home, port=0, say=lambda event: None, stop=threading.Event())

from datetime import UTC, datetime, timedelta

import pytest

from hospitium.errors import TrustError
from hospitium.state import chain as chain_module
from hospitium.state.chain import Chain
from hospitium.wire import member_changes as changing
from hospitium.wire.members import Member, sign_members
from hospitium.wire.signing import SigningKey

UNTIL = datetime(2027, 11, 21, tzinfo=UTC)
OFFICER, COORDINATOR = SigningKey.generate(), SigningKey.generate()


def lists(count):
    """Return so many signed lists, each with one site more."""
    found = changing.first_list(
        federation="north",
        officers=[OFFICER.public.hex()],
        threshold=1,
        coordinator_key=COORDINATOR.public.hex(),
        min_sites=2,
        valid_until=UNTIL,
    )
    signed = [sign_members(found, OFFICER)]
    for site_id in map("site-{}".format, range(count - 1)):
        keys = [SigningKey.generate().public.hex() for _ in range(2)]
        member = Member(
            site_id=site_id, legal_entity=site_id, signing_key=keys[0], request_key=keys[1]
        )
        found = changing.admit(found, member, valid_until=UNTIL - timedelta(days=1))
        signed.append(sign_members(found, OFFICER))
    return signed


@pytest.fixture
def chain(tmp_path):
    made = Chain(tmp_path / "members")
    made.plant(federation="north", officers=[OFFICER.public.hex()], threshold=1)
    return made


def test_a_list_is_verified_once_and_later_ones_from_there(chain, monkeypatch):
    steps, follow = [], chain_module.follow
    signed = lists(5)
    chain.extend(signed[:4])
    chain.current()
    monkeypatch.setattr(
        chain_module, "follow", lambda last, more: steps.append(len(more)) or follow(last, more)
    )
    assert chain.current().members_epoch == 4
    chain.extend(signed[4:])
    assert chain.current().members_epoch == 5
    assert max(steps) <= 1


def test_a_file_that_is_changed_after_it_was_verified_is_found(chain, tmp_path):
    chain.extend(lists(4))
    assert chain.current().members_epoch == 4
    path = tmp_path / "members" / "00000002.dsse"
    path.write_bytes(path.read_bytes().replace(b"payload", b"payl0ad"))
    with pytest.raises(TrustError):  # whatever is wrong with it
        chain.current()


def test_other_officers_in_the_root_are_found_after_it_was_verified(chain, tmp_path):
    chain.extend(lists(2))
    assert chain.current() is not None
    path = tmp_path / "members" / "root.json"
    path.write_bytes(path.read_bytes().replace(OFFICER.public.hex().encode(), b"a" * 64))
    with pytest.raises(TrustError):  # whatever is wrong with it
        chain.current()

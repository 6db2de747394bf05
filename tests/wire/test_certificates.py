"""Certificates that a real TLS client takes, for exactly the hosts that they are for."""

import hashlib
import ipaddress
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from hospitium.errors import TrustError
from hospitium.wire.certificates import (
    AUTHORITY_LIFE,
    RENEWED_BEFORE,
    SERVER_LIFE,
    SKEW,
    Issued,
    fingerprint,
    hosts_of,
    is_good,
    make_authority,
    make_server_certificate,
    read_issued,
    tidied,
)

NOW = datetime.now(UTC)
AUTHORITY = make_authority("Hospitium north", now=NOW)
OTHER = make_authority("Hospitium north", now=NOW)
ADDRESSES = ["https://hub.example.org", "https://127.0.0.1:8443", "https://[::1]:8443/north"]
SERVER = make_server_certificate(AUTHORITY, ADDRESSES, now=NOW)


def greet(server, host, *, authority=AUTHORITY, folder):
    """Shake hands over memory: a server with this certificate, a client that asks for this host."""
    path = folder / "server.pem"
    path.write_bytes(server.both)
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(path)
    theirs = ssl.create_default_context(cadata=authority.certificate.decode())
    theirs.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = theirs.wrap_bio(to_client, to_server, server_hostname=host)
    waiting = [ours.wrap_bio(to_server, to_client, server_side=True), client]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
    assert not waiting
    return client.getpeercert()


@pytest.mark.parametrize("host", ["hub.example.org", "127.0.0.1", "::1"])
def test_a_client_that_trusts_the_authority_takes_the_server_under_each_of_its_hosts(
    host, tmp_path
):
    greet(SERVER, host, folder=tmp_path)


@pytest.mark.parametrize(
    ("host", "options"),
    [
        ("example.org", {}),
        ("a.hub.example.org", {}),
        ("127.0.0.2", {}),
        ("hub.example.org", {"authority": OTHER}),
    ],
)
def test_another_host_and_another_authority_of_the_same_name_are_refused(host, options, tmp_path):
    with pytest.raises(ssl.SSLCertVerificationError):
        greet(SERVER, host, folder=tmp_path, **options)


def test_a_server_cannot_sign_for_another(tmp_path):
    forged = make_server_certificate(SERVER, ["https://bank.example"], now=NOW)
    chain = Issued(certificate=forged.certificate + SERVER.certificate, key=forged.key)
    with pytest.raises(ssl.SSLCertVerificationError):
        greet(chain, "bank.example", folder=tmp_path)


def test_both_are_good_for_as_long_as_they_say():
    for issued, life in ((AUTHORITY, AUTHORITY_LIFE), (SERVER, SERVER_LIFE)):
        found = x509.load_pem_x509_certificate(issued.certificate)
        assert found.not_valid_after_utc - found.not_valid_before_utc == life
        assert abs(found.not_valid_before_utc - (NOW - SKEW)) < timedelta(seconds=1)


def test_a_server_is_kept_until_thirty_days_before_its_end():
    end = x509.load_pem_x509_certificate(SERVER.certificate).not_valid_after_utc
    for moment, expected in (
        (NOW, True),
        (end - RENEWED_BEFORE, True),
        (end - RENEWED_BEFORE + timedelta(seconds=1), False),
        (end + timedelta(days=1), False),
        (NOW - 2 * SKEW, False),
    ):
        found = is_good(SERVER.both, ADDRESSES, authority=AUTHORITY.certificate, now=moment)
        assert found is expected


@pytest.mark.parametrize(
    "addresses", [ADDRESSES[:2], [*ADDRESSES, "https://new.example"], ["https://127.0.0.1"]]
)
def test_a_server_is_renewed_when_its_hosts_change(addresses):
    assert not is_good(SERVER.both, addresses, authority=AUTHORITY.certificate, now=NOW)


def test_a_server_of_another_authority_or_without_hosts_is_renewed():
    for pem in (SERVER.both, AUTHORITY.both):
        assert not is_good(pem, ADDRESSES, authority=OTHER.certificate, now=NOW)
    assert not is_good(AUTHORITY.both, ADDRESSES, authority=AUTHORITY.certificate, now=NOW)


@given(
    hosts=st.lists(
        st.one_of(
            st.from_regex(r"[a-z][a-z0-9-]{0,10}[a-z0-9](\.[a-z]{2,5}){0,2}", fullmatch=True),
            st.ip_addresses(v=4).map(str),
            st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
        ),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=25, deadline=None)
def test_the_hosts_of_any_addresses_are_those_of_the_certificate(hosts):
    addresses = [f"https://{host}:8443/x" for host in hosts]
    issued = make_server_certificate(AUTHORITY, addresses, now=NOW)
    names = x509.load_pem_x509_certificate(issued.certificate).extensions
    found = names.get_extension_for_class(x509.SubjectAlternativeName).value
    listed = [*found.get_values_for_type(x509.DNSName)]
    listed += [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    bare = {host.strip("[]") for host in hosts}
    assert set(listed) == {str(ipaddress.ip_address(h)) if ":" in h else h for h in bare}
    assert is_good(issued.both, addresses[::-1], authority=AUTHORITY.certificate, now=NOW)


@pytest.mark.parametrize(
    "addresses", [[], ["https://"], ["hub"], ["https://[1"], ["https://h\u00e4"]]
)
def test_an_address_without_a_host_is_refused(addresses):
    with pytest.raises(TrustError, match="https://"):
        hosts_of(addresses)


def test_the_fingerprint_is_the_one_that_every_tool_shows():
    text = AUTHORITY.certificate.decode()
    der = ssl.PEM_cert_to_DER_cert(text)
    assert fingerprint(text) == hashlib.sha256(der).hexdigest()
    assert tidied(b"Bag Attributes\n" + AUTHORITY.certificate + OTHER.certificate) == text


@pytest.mark.parametrize("change", [str.strip, lambda text: text + text, lambda text: "x\n" + text])
def test_a_text_that_is_not_exactly_one_certificate_has_no_fingerprint(change):
    with pytest.raises(TrustError):
        fingerprint(change(AUTHORITY.certificate.decode()))
    with pytest.raises(TrustError):
        fingerprint("no certificate")


def test_key_and_certificate_are_read_together_and_only_together():
    assert read_issued(AUTHORITY.both) == AUTHORITY
    assert read_issued(SERVER.both) == SERVER
    for mixed in (
        AUTHORITY.certificate,
        AUTHORITY.key,
        OTHER.key + AUTHORITY.certificate,
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n" + AUTHORITY.certificate,
    ):
        with pytest.raises(TrustError):
            read_issued(mixed)
    with pytest.raises(TrustError):
        make_server_certificate(
            Issued(certificate=AUTHORITY.certificate, key=OTHER.key), ADDRESSES, now=NOW
        )


def test_the_text_form_shows_no_key():
    assert "PRIVATE" not in repr(AUTHORITY)

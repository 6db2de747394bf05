"""The coordinator's own certificate authority, and the certificate of its server.

Who has no certificate of a CA that everybody trusts makes an authority here: its certificate goes
to each site inside the invite, and the site trusts it for this coordinator alone. TLS protects the
way; who a coordinator or a site *is*, is said by the signatures on every message.

Nothing is written here. A private key is for a file that nobody else can read.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hospitium.errors import TrustError

AUTHORITY_LIFE = timedelta(days=3653)
SERVER_LIFE = timedelta(days=397)
RENEWED_BEFORE = timedelta(days=30)
"""A server's certificate is made anew when it is good for less than this."""

SKEW = timedelta(days=1)
"""Certificates begin so long ago: clocks of hospitals differ."""

_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
    "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Issued:
    """A certificate and its private key, both in PEM; the key is left out of the text form."""

    certificate: bytes
    key: bytes = field(repr=False)

    @property
    def both(self) -> bytes:
        """Key and certificate for one file, so that no crash can part them; a secret."""
        return self.key + self.certificate


def make_authority(name: str, *, now: datetime) -> Issued:
    """Make a certificate authority, good for ten years, that can sign servers and nothing else.

    Args:
        name: What people see as the issuer, 1 to 64 characters.
        now: The time, UTC.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _begun(_name(name), _name(name), key, now=now, life=AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _issued(certificate, key)


def make_server_certificate(
    authority: Issued, addresses: Sequence[str], *, now: datetime
) -> Issued:
    """Make a server's certificate, good for 397 days, for the hosts of these addresses.

    Args:
        authority: Who signs it.
        addresses: HTTPS addresses; hosts are names or IP addresses.
        now: The time, UTC.

    Raises:
        TrustError: An address has no host (``fields``).
    """
    issuer, issuer_key = _authority(authority)
    hosts = hosts_of(addresses)
    key = ec.generate_private_key(ec.SECP256R1())
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    certificate = (
        _begun(_name(hosts[0][:64]), issuer.subject, key, now=now, life=SERVER_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False
        )
        .add_extension(signer, critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return _issued(certificate, key)


def read_issued(both: bytes) -> Issued:
    """Read what `Issued.both` gave.

    Raises:
        TrustError: A part is missing, or they do not belong together (``fields``).
    """
    certificate = _loaded(both)
    return _issued(certificate, _key_of(both, certificate))


def is_good(server: bytes, addresses: Sequence[str], *, authority: bytes, now: datetime) -> bool:
    """Whether a server's certificate can stay: of this authority, for these hosts, and not old.

    Args:
        server: The certificate in PEM; its key may stand beside it.
        addresses: HTTPS addresses under which the server is reached.
        authority: The certificate of the authority in PEM.
        now: The time, UTC.
    """
    found, issuer = _loaded(server), _loaded(authority)
    try:
        found.verify_directly_issued_by(issuer)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    return (
        set(names) == {_general_name(host) for host in hosts_of(addresses)}
        and found.not_valid_before_utc <= now
        and found.not_valid_after_utc - now >= RENEWED_BEFORE
    )


def fingerprint(certificate: str) -> str:
    """Return the SHA-256 of a certificate in PEM, as every tool shows it.

    Raises:
        TrustError: The text is not exactly one certificate in PEM (``fields``).
    """
    found = _loaded(certificate.encode())
    if found.public_bytes(Encoding.PEM).decode() != certificate:
        raise TrustError("fields", "A certificate was refused: there is more in it, or less.")
    return found.fingerprint(hashes.SHA256()).hex()


def tidied(certificate: bytes) -> str:
    """Return the first certificate of a PEM file in the one form that `fingerprint` takes.

    Raises:
        TrustError: There is none (``fields``).
    """
    return _loaded(certificate).public_bytes(Encoding.PEM).decode()


def hosts_of(addresses: Sequence[str]) -> tuple[str, ...]:
    """Return the hosts of HTTPS addresses, each once, in their order.

    Raises:
        TrustError: There is none, or an address has none (``fields``).

    Example:
        >>> hosts_of(["https://hub.example.org:8443", "https://[::1]/"])
        ('hub.example.org', '::1')
    """
    try:
        found = [urlsplit(address).hostname or "" for address in addresses]
    except ValueError:
        found = [""]
    if not found or not all(host.isascii() and host for host in found):
        raise TrustError(
            "fields",
            "No certificate was made: an address of the coordinator names no host. Write "
            "addresses as https://hub.example.org or https://192.0.2.7:8443.",
        )
    return tuple(dict.fromkeys(found))


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    *,
    now: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now - SKEW + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _issued(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Issued:
    return Issued(
        certificate=certificate.public_bytes(Encoding.PEM),
        key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def _authority(authority: Issued) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Return an authority as it signs.

    Raises:
        TrustError: Key and certificate are not one authority's (``fields``).
    """
    certificate = _loaded(authority.certificate)
    return certificate, _key_of(authority.key, certificate)


def _key_of(pem: bytes, certificate: x509.Certificate) -> ec.EllipticCurvePrivateKey:
    """Return the private key of a certificate."""
    key = None
    with suppress(ValueError, TypeError):
        key = load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or (
        key.public_key() != certificate.public_key()
    ):
        raise TrustError(
            "fields",
            "The key of a certificate is damaged, or another's. Nothing was made or changed. "
            "The coordinator: restore certificate and key from a backup.",
        )
    return key


def _loaded(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise TrustError("fields", "A text was refused: there is no certificate in it.") from None


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*names: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in names for name in _USAGES})

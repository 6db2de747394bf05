"""What stands in a certificate, in words: for people who look for the reason of a refusal."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from hospitium.errors import TrustError
from hospitium.wire.canonical import digest


@dataclass(frozen=True, kw_only=True)
class CertificateFacts:
    """One certificate; ``names`` are the host names and addresses that it is good for."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    sha256: str

    @property
    def is_self_signed(self) -> bool:
        """Whether it names itself as its issuer."""
        return self.subject == self.issuer


def read_certificate(der: bytes) -> CertificateFacts:
    """Return what stands in a certificate; nothing is verified.

    Raises:
        TrustError: The bytes are no certificate (``fields``).
    """
    try:
        return _facts(x509.load_der_x509_certificate(der), der)
    except ValueError as error:
        raise TrustError("fields", "These bytes are no certificate.") from error


def read_pem_certificate(pem: bytes) -> CertificateFacts:
    """Return what stands in the first certificate of a PEM file; nothing is verified.

    Raises:
        TrustError: There is none (``fields``).
    """
    try:
        found = x509.load_pem_x509_certificate(pem)
        return _facts(found, found.public_bytes(Encoding.DER))
    except ValueError as error:
        raise TrustError("fields", "There is no certificate in this PEM text.") from error


def _facts(found: x509.Certificate, der: bytes) -> CertificateFacts:
    return CertificateFacts(
        subject=_short(found.subject),
        issuer=_short(found.issuer),
        names=_names(found),
        not_before=found.not_valid_before_utc,
        not_after=found.not_valid_after_utc,
        sha256=digest(der),
    )


def _names(found: x509.Certificate) -> tuple[str, ...]:
    with suppress(x509.ExtensionNotFound):
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        addresses = names.get_values_for_type(x509.IPAddress)
        return (*names.get_values_for_type(x509.DNSName), *(str(one) for one in addresses))
    return ()


def _short(name: x509.Name) -> str:
    """Return the common name and the organisation: what people know a CA by."""
    wanted = (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)
    found = [str(part.value) for oid in wanted for part in name.get_attributes_for_oid(oid)]
    return ", ".join(dict.fromkeys(found)) or name.rfc4514_string() or "nobody"

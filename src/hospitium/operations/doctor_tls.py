"""The TLS hop of ``hospitium doctor``: whose certificate is shown, and who opens TLS on the way."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass

from hospitium.errors import TrustError
from hospitium.operations import doctor_hops as hops
from hospitium.operations.doctor_checks import (
    CENTRE,
    ENGINEER,
    HOSPITAL_IT,
    Check,
    failed,
    passed,
    warned,
)
from hospitium.operations.doctor_hops import HopError, Place, Proxy
from hospitium.wire.certificate_facts import CertificateFacts, read_certificate


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a site goes to its hub.

    Attributes:
        to: The hub.
        url: Its address.
        proxy_setting: The proxy that the site's settings name; empty for none.
        pinned: Trusts what the invite names, and nothing else.
        in_use: Trusts what the site's agent trusts.
        hop_s: Seconds that a hop may take.
    """

    to: Place
    url: str
    proxy_setting: str
    pinned: ssl.SSLContext
    in_use: ssl.SSLContext
    hop_s: float = hops.HOP_S


def open_tls(way: Way) -> ssl.SSLSocket:
    """Open a connection to the hub by all the hops, trusted as the site's agent trusts.

    Raises:
        HopError: One of them failed.
    """
    line = _line(way, hops.find_proxy(way.url, setting=way.proxy_setting))
    return hops.shake_hands(line, way.to, way.in_use)


def _line(way: Way, proxy: Proxy | None) -> socket.socket:
    """Return a connection that leads to the hub, before TLS."""
    line = hops.connect(proxy.place if proxy else way.to, timeout_s=way.hop_s)
    if proxy is None:
        return line
    try:
        answer = hops.ask_tunnel(line, proxy, way.to)
    except HopError:
        line.close()
        raise
    if answer.status != 200:
        line.close()
        raise HopError("closed", f"the proxy answered {answer.status} this time")
    return line


def check_tls(way: Way, proxy: Proxy | None) -> Check:
    """Open TLS as the invite says it must be; else say who stands in between, or what is wrong."""
    try:
        with hops.shake_hands(_line(way, proxy), way.to, way.pinned) as opened:
            facts = read_certificate(opened.getpeercert(binary_form=True) or b"")
            version = opened.version()
    except HopError as error:
        return _no_tls(way, proxy, error)
    until = facts.not_after.strftime("%Y-%m-%d")
    return passed("tls", f"{version}, issued by {facts.issuer} as the invite says, until {until}")


def _no_tls(way: Way, proxy: Proxy | None, error: HopError) -> Check:
    if error.kind in ("no_tls", "closed", "silent"):
        return failed(
            "tls",
            f"{way.to}: {error}",
            remedy="Something in between cuts or answers it: a firewall that looks at TLS, or a "
            "page that asks people to log in. Let TLS to this name pass.",
            who=HOSPITAL_IT,
        )
    try:
        facts = read_certificate(hops.look_at_certificate(_line(way, proxy), way.to))
    except (HopError, TrustError) as second:
        return failed(
            "tls", f"{way.to}: {error}; then {second}", remedy="Run it again.", who=HOSPITAL_IT
        )
    if error.kind == "untrusted":
        return _inspected(way, proxy, facts)
    return _bad_certificate(way, facts, error)


def _bad_certificate(way: Way, facts: CertificateFacts, error: HopError) -> Check:
    if error.kind == "expired":
        days = f"{facts.not_before:%Y-%m-%d} to {facts.not_after:%Y-%m-%d}"
        return failed(
            "tls",
            f"the certificate of {way.to} ({error}) is good from {days}; issuer is {facts.issuer}",
            remedy="Renew the certificate of the hub. (Is the date of this machine right?)",
            who=CENTRE,
        )
    return failed(
        "tls",
        f"the certificate of {way.to} is for {', '.join(facts.names) or facts.subject}; issuer is "
        f"{facts.issuer}",
        remedy="Get a certificate for the name that the invites hold, or send new invites.",
        who=CENTRE,
    )


def _inspected(way: Way, proxy: Proxy | None, facts: CertificateFacts) -> Check:
    """Say who opens TLS on the way, and whether this site's agent lets that pass."""
    found = f"A proxy opens TLS here; issuer is {facts.issuer}"
    try:
        hops.shake_hands(_line(way, proxy), way.to, way.in_use).close()
    except HopError as error:
        return failed(
            "tls",
            f"{found}, which is not trusted here ({error}); nothing is sent",
            remedy="Ask hospital IT for the certificate of this issuer (PEM) and name the file in "
            "the settings of this federation; or have this name left out of inspection. If IT "
            "inspects nothing, another machine answers under this name: call the centre.",
            who=ENGINEER,
        )
    return warned(
        "tls",
        f"{found}, which is trusted here",
        remedy="Nothing has to be done. Every message stays signed end to end; the proxy can read "
        "tasks, sizes and times, and no update: those are sealed or masked.",
        who=HOSPITAL_IT,
    )

"""What ``hospitium doctor`` finds on the way to the hub: the first hop that fails is named.

A hop behind one that failed is not tried, and says so.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import closing, suppress
from urllib.parse import quote

from hospitium.operations import doctor_hops as hops
from hospitium.operations.doctor_checks import (
    CENTRE,
    ENGINEER,
    HOSPITAL_IT,
    Check,
    failed,
    passed,
    skipped,
    warned,
)
from hospitium.operations.doctor_hops import HopError, Proxy, Tunnel
from hospitium.operations.doctor_tls import Way, check_tls

HOPS = ("proxy", "dns", "tcp", "connect", "tls")
"""The checks of this file, in their order."""

_BASIC = (
    "Put the login into the address of the proxy, http://USER:PASSWORD@HOST:PORT, in the settings "
    "of this federation or in HTTPS_PROXY; or ask that {to} be let through without a login."
)
_HELPER = (
    "Hospitium itself logs in by Basic only. Ask that {to} be let through without a login for this "
    "machine, or run a program here that logs in (cntlm, px) and name it as the proxy."
)
_FAR_END = (
    "Is `hospitium coordinator up` running there? If it is, hospital IT: the proxy cannot look up "
    "this name, or is not let out to it."
)
_DOWN = (500, 502, 503, 504)
"""What proxies answer where they are well and the other end is not."""


def check_hops(way: Way) -> Iterator[Check]:
    """Yield a check for each hop, up to the first that fails."""
    try:
        proxy = hops.find_proxy(way.url, setting=way.proxy_setting)
    except ValueError as error:
        yield failed("proxy", f"{error}", remedy="Write it as http://HOST:PORT.", who=ENGINEER)
        return
    check = _proxy(way, proxy)
    yield check
    if check.status != "PASS" or (proxy and proxy.scheme != "http"):
        return
    for one in (_dns, _tcp, _connect, check_tls):
        check = one(way, proxy)
        yield check
        if check.status == "FAIL":
            return


def proxy_address(way: Way) -> str:
    """Return the proxy's address with its login, for a library that takes it; empty for none."""
    found = hops.find_proxy(way.url, setting=way.proxy_setting)
    if found is None:
        return ""
    user, _, password = found.login.partition(":")
    secret = f"{quote(user, safe='')}:{quote(password, safe='')}@" if found.login else ""
    return f"{found.scheme}://{secret}{found.place}"


def _proxy(way: Way, proxy: Proxy | None) -> Check:
    if proxy is None:
        return passed("proxy", f"none is set: {way.to} is reached directly")
    found = f"{proxy.place}, of {proxy.said_by}, with {'a' if proxy.login else 'no'} login"
    if proxy.scheme == "http":
        return passed("proxy", found)
    if proxy.scheme == "https":
        return warned(
            "proxy",
            f"{found}; it is spoken to by TLS, so the hops to it cannot be looked at one by one",
            remedy="If the hub is not reached, try the proxy's plain port (http://HOST:PORT).",
            who=ENGINEER,
        )
    return failed(
        "proxy",
        f"{found}; its kind is {proxy.scheme}, expected http",
        remedy="Name a proxy that takes CONNECT: http://HOST:PORT.",
        who=ENGINEER,
    )


def _dns(way: Way, proxy: Proxy | None) -> Check:
    place = proxy.place if proxy else way.to
    with suppress(ValueError):
        ipaddress.ip_address(place.host)
        return passed("dns", f"{place.host} is an address, there is no name to look up")
    asked = f"resolver {hops.resolver()}" if hops.resolver() else "the system's resolver"
    try:
        addresses = hops.resolve(place, timeout_s=way.hop_s)
    except HopError as error:
        what = "proxy" if proxy else "coordinating centre"
        return failed(
            "dns",
            f"the name of the {what}, {place.host}, was not found: {error} ({asked})",
            remedy=f"Look for a wrong letter in {place.host}; else the resolver must know it.",
            who=HOSPITAL_IT,
        )
    by_proxy = f"; {way.to.host} is looked up by the proxy" if proxy else ""
    return passed("dns", f"{place.host} is {', '.join(addresses[:3])} ({asked}){by_proxy}")


def _tcp(way: Way, proxy: Proxy | None) -> Check:
    place = proxy.place if proxy else way.to
    try:
        hops.connect(place, timeout_s=way.hop_s).close()
    except HopError as error:
        return _no_tcp(way, proxy, error)
    return passed("tcp", f"{place} takes connections")


def _no_tcp(way: Way, proxy: Proxy | None, error: HopError) -> Check:
    if proxy:
        return failed(
            "tcp",
            f"the proxy {proxy.place} (of {proxy.said_by}) does not take connections: {error}",
            remedy="Compare its address and port with what hospital IT says; is it running?",
            who=HOSPITAL_IT,
        )
    if error.kind == "refused":
        return failed(
            "tcp",
            f"{way.to}: {error}; the machine is there, and nothing listens at this port",
            remedy="The hub is not running there: `hospitium coordinator up`. If it is, a firewall "
            "refuses it: let TCP out to this name and port.",
            who=CENTRE,
        )
    return failed(
        "tcp",
        f"{way.to}: {error}; a firewall drops it, or direct access is not allowed here",
        remedy=f"Let TCP out to {way.to}, or name the proxy that machines here have to use.",
        who=HOSPITAL_IT,
    )


def _connect(way: Way, proxy: Proxy | None) -> Check:
    if proxy is None:
        return skipped("connect", "no proxy is set")
    try:
        with closing(hops.connect(proxy.place, timeout_s=way.hop_s)) as line:
            answer = hops.ask_tunnel(line, proxy, way.to)
    except HopError as error:
        if error.kind == "silent":
            found = f"{proxy.place} was asked for {way.to} and still waits for the other end"
            return failed("connect", f"{found}: {error}", remedy=_FAR_END, who=CENTRE)
        return failed(
            "connect",
            f"{proxy.place} was asked for {way.to}: {error}",
            remedy="Is this the proxy's port? Its log says what it did.",
            who=HOSPITAL_IT,
        )
    if answer.status == 200:
        return passed("connect", f"{proxy.place} connects to {way.to}")
    return _no_tunnel(way, proxy, answer)


def _no_tunnel(way: Way, proxy: Proxy, answer: Tunnel) -> Check:
    said = f"{answer.status} {answer.text}".strip()
    if answer.status == 407:
        is_basic = "basic" in (method.lower() for method in answer.logins)
        methods = ", ".join(answer.logins) or "no method that it names"
        state = "did not take the login that is set" if proxy.login else "wants a login"
        return failed(
            "connect",
            f"{proxy.place} {state}; it offers {methods} (407)",
            remedy=(_BASIC if is_basic else _HELPER).format(to=way.to),
            who=ENGINEER if is_basic else HOSPITAL_IT,
        )
    if answer.status in _DOWN:
        return failed(
            "connect",
            f"{proxy.place} works and does not reach {way.to}: {said}",
            remedy=_FAR_END,
            who=CENTRE,
        )
    return failed(
        "connect",
        f"{proxy.place} refuses CONNECT to {way.to}: {said}",
        remedy=f"Allow CONNECT to {way.to} in the proxy, for this machine.",
        who=HOSPITAL_IT,
    )

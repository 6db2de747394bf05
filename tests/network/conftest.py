"""Networks with real proxies, for tests from one end to the other."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import namespaces
import proxies
from namespaces import Machine, Network
from proxies import Kind, Proxy


@pytest.fixture
def network() -> Iterator[Network]:
    if reason := namespaces.why_not():
        pytest.skip(reason)
    with Network() as made:
        yield made


@pytest.fixture
def behind(network: Network) -> Iterator[Callable[..., tuple[Machine, Proxy]]]:
    """Return a function that adds a site behind a proxy of a kind."""
    if reason := proxies.why_not():
        pytest.skip(reason)
    started = []

    def make(kind: Kind, *, hub_ca: bytes = b"", **options: Any) -> tuple[Machine, Proxy]:
        site, machine = network.site_behind_proxy(kind.replace("_", "-"))
        started.append(Proxy(network, machine, kind, hub_ca=hub_ca, **options))
        return site, started[-1]

    yield make
    for proxy in started:
        proxy.close()

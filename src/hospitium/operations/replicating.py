"""``coordinator replica``: one more hub of federations that keep what is on its way in a cluster.

It serves the sites and works on no run. Any number of replicas may serve beside the coordinator,
each a process of its own with the same home folder; whichever ends, sites go on at another.
"""

from __future__ import annotations

import threading

from hospitium.errors import UsageError
from hospitium.operations.houses import Houses, server_of
from hospitium.operations.hub_storage import has_cluster
from hospitium.operations.progress import Say
from hospitium.state.home import Home

LOOK_S = 1.0


def serve_replica(
    home: Home, *, host: str = "", port: int | None = None, say: Say, stop: threading.Event
) -> None:
    """Serve the sites of every federation that has a cluster, until ``stop`` is set.

    Args:
        home: The coordinator's installation.
        host: Address to listen at; "" for all.
        port: Port to listen at, another than that of any other replica on this machine; None takes
            that of the first address.
        say: Where progress goes; the first event is ``serving``, with the port.
        stop: Ends it; so does an interruption.

    Raises:
        UsageError: No federation has a cluster.
        EngineError: The port is not free, or the cluster cannot serve.
    """
    houses = Houses(
        home, say=say, folder=f"replica-{port}" if port else "replica", serves=has_cluster
    )
    try:
        houses.look()
        if not houses.found:
            raise UsageError(
                "No federation of this installation keeps what is on its way in a NATS cluster. "
                "Nothing was started. Name the cluster in nats.toml in the federation's folder; "
                "see docs/how-to/run-a-nats-cluster.md."
            )
        server = server_of(home, houses, host=host, port=port)
        try:
            server.start()
            names = ", ".join(sorted(houses.found))
            text = f"Serving {names} at port {server.port}, as a replica"
            say({"kind": "serving", "text": text, "port": server.port})
            while not stop.wait(LOOK_S):
                houses.look()
        finally:
            server.stop()
    finally:
        houses.close()

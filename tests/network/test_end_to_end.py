"""Four hospitals and a coordinating centre, as they are: own machines, processes and proxies."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from evidence import HubFiles, Remembering, asked_for, hosts, left, record_of
from installations import (
    FEDERATION,
    POLICY,
    Installation,
    approve_all,
    begin,
    end,
    join_all,
    wait_for,
)
from namespaces import HUB_ADDRESS, HUB_NAME
from proxies import MAX_BODY_MB, PASSWORD

from hospitium.engines.site_worker import answer_request
from hospitium.engines.workers import WorkerPool
from hospitium.operations.preparing import prepare_run
from hospitium.operations.progress import silent
from hospitium.operations.running import run_to_end
from hospitium.state.home import Home
from hospitium.wire.sealing import sealed_bytes

pytestmark = [pytest.mark.ci, pytest.mark.timeout(400)]

KINDS = {"kiel": "connect_only", "oslo": "inspecting", "turku": "login", "bergen": "none"}
SITES = sorted(KINDS)
BEHIND = [name for name in SITES if KINDS[name] != "none"]
ROUNDS = 3
RUN = "study"
SEALED = b"hospitium sealed 1\n"
PLAN = f"""
name = "chest-x-rays"
[model]
name = "small_cnn"
args = {{ widths = [32, 64, 256], convs_per_stage = 2 }}
[training]
steps = 3
batch_size = 32
[rounds]
count = {ROUNDS}
quorum = {len(SITES)}
deadline_s = 120.0
[evaluation]
choose = "best"
"""
DIRECTLY = """
import socket, sys
for name in sys.argv[1:]:
    try:
        socket.create_connection((name, 443), timeout=2).close()
        print("reached")
    except OSError as error:
        print(type(error).__name__)
"""


@pytest.fixture
def x_rays(real_data, tmp_path):
    """Deal the chest X-rays of pneumoniamnist out to the sites; return the number for training."""
    path = real_data / "pneumoniamnist" / "pneumoniamnist.npz"
    with np.load(path) as whole:
        for number, name in enumerate(SITES):
            dealt = {key: whole[key][number :: len(SITES)] for key in whole.files}
            np.savez(tmp_path / f"{name}.npz", **dealt)
        return len(whole["train_labels"])


@pytest.fixture
def centre(network, tmp_path):
    return begin(network, tmp_path / "centre")


@pytest.fixture
def proxies(behind, centre):
    """Start a proxy of each kind; return site's machine and proxy, by site."""
    return {
        name: behind(KINDS[name], hub_ca=centre.hub_ca, scans=KINDS[name] == "inspecting")
        for name in BEHIND
    }


@pytest.fixture
def sites(network, proxies, tmp_path):
    machines = {name: machine for name, (machine, _) in proxies.items()}
    machines["bergen"] = network.site("bergen")
    return {
        name: Installation(network=network, machine=machines[name], home=tmp_path / name)
        for name in SITES
    }


def in_process(plan, folder):
    """Run the plan with all sites on this machine; return its record and what each site sent."""
    rows = [f'[sites.{name}]\ndata = "{name}.npz"' for name in SITES]
    (folder / "sites.toml").write_text("\n".join(rows), encoding="ascii")
    run = prepare_run(
        Home(folder / "one-machine"), plan_path=plan, sites_path=folder / "sites.toml",
        run_id=RUN, plugin_path=None, out=None, say=silent, command="",
    )  # fmt: skip
    pool = WorkerPool(answer_request, num_workers=1)
    engines = Remembering(pool)
    try:
        run_to_end(run, engines=engines, say=silent, label=RUN)
    finally:
        pool.close()
    return record_of(run), engines.sent


def params_of(record):
    return [(row["round_number"], row["params_digest"]) for row in record["rounds"]]


def check_ways(sites):
    """Only the site without a proxy reaches the hub by itself."""
    for name, site in sites.items():
        done = site.machine.run(sys.executable, "-I", "-c", DIRECTLY, HUB_NAME, HUB_ADDRESS)
        expected = ["gaierror", "OSError"] if name in BEHIND else ["reached", "reached"]
        assert done.stdout.split() == expected, name


def check_nothing_in_the_clear(hub, sent):
    """At no moment was an update in the hub's folder but sealed; the model, which all have, was."""
    assert sorted(sent) == [(name, number) for name in SITES for number in range(1, ROUNDS + 1)]
    for name in SITES:
        assert hub.received(name)
        for path in hub.received(name).values():
            data = path.read_bytes()
            assert data.startswith(SEALED)
            assert MAX_BODY_MB << 20 < len(data) == sealed_bytes(sent[name, 1].size_bytes)
    for one in sent.values():
        assert hub.holding(one.piece) == []
    assert hub.holding(hub.models()[0].read_bytes()[1000:1048])  # it would have been found


def check_nothing_to_read(proxy, hub, sent):
    """Where the proxy has opened TLS, it saw all that the hub got from its site: sealed."""
    bodies = proxy.bodies()
    for path in hub.received("oslo").values():
        assert path.read_bytes()[: 1 << 20] in bodies
    for one in sent.values():
        assert one.piece not in bodies and one.piece not in proxy.log().encode()


def check_what_left(centre, sites, hub, record, sent):
    """Each site's own record names exactly what the coordinator took from it, and as what."""
    canary = record_of(centre.home / "runs" / f"{RUN}-canary")
    for name, site in sites.items():
        took = [
            (run_id, row["round_number"], row["digest"])
            for run_id, of in ((f"{RUN}-canary", canary), (RUN, record))
            for row in of["seats"]
            if row["site_id"] == name
        ]
        gone = left(site)
        updates = [row for row in gone if row["kind"] == "update"]
        assert [
            (row["run_id"], row["round_number"], row["params_sha256"]) for row in updates
        ] == took
        digests = [sent[name, number].sha256 for number in range(1, ROUNDS + 1)]
        assert [digest for run_id, _, digest in took if run_id == RUN] == digests
        assert hub.received(name).keys() <= {row["sha256"] for row in updates}
    assert not list(centre.home.glob("runs/*/run.key"))  # nobody can open them again


def check_status(sites, plan_digest):
    """Every site says of itself that it can work, and that its training is cut off."""
    for site in sites.values():
        found = site.tell("site", "status")
        assert found["registered"] and found["reachable"] and found["decoding"], found
        assert found["approved"] == [plan_digest] and found["healthy"], found
        assert (found["isolation"], found["last_error"]) == ("cut_off", ""), found


def check_logs(proxies):
    """The proxies were asked for the hub at 443 and nothing else, by CONNECT and nothing else."""
    for name, (_, proxy) in proxies.items():
        log = proxy.log()
        assert hosts(log) == {f"{HUB_NAME}:443"}, log
        assert PASSWORD not in log and "/413 " not in log
        inside = [(method, url) for method, url in asked_for(log) if method != "CONNECT"]
        assert bool(inside) == (KINDS[name] == "inspecting")
        assert {method for method, _ in inside} <= {"GET", "POST", "PUT"}
        assert all(url.startswith(f"https://{HUB_NAME}/{FEDERATION}/v1/") for _, url in inside)


def check_inspection(site):
    """The engineer at the inspected site is told who opens TLS, and that nothing stops the work."""
    checks = {check["name"]: check for check in site.tell("doctor")["checks"]}
    assert checks["tls"]["status"] == "WARN"
    assert "A proxy opens TLS here; issuer is Hospital Proxy CA" in checks["tls"]["found"]
    assert checks["tls"]["who"] == "hospital IT"


def test_four_hospitals_behind_their_proxies_come_to_the_bits_of_one_machine(
    centre, sites, proxies, x_rays, tmp_path
):
    def notes():
        return "\n".join(one.notes() for one in (centre, *sites.values()))

    centre.start("coordinator", "up")
    wait_for(lambda: "Serving" in centre.notes(), timeout_s=60, notes=notes)
    check_ways(sites)
    ways = {name: proxy for name, (_, proxy) in proxies.items()}
    join_all(centre, sites, ways, policy=POLICY)
    (tmp_path / "plan.toml").write_text(PLAN, encoding="ascii")
    offered = centre.tell("coordinator", "offer", tmp_path / "plan.toml", "--cases", x_rays)
    digest = offered["plan_digest"]
    agents = [site.start("site", "up") for site in sites.values()]
    with ThreadPoolExecutor(1) as thread:
        alone = thread.submit(in_process, tmp_path / offered["resolved"], tmp_path)
        approve_all(centre, sites, digest)
        words = ("run", "start", digest, "--federation", FEDERATION, "--name", RUN)
        assert [row["site_id"] for row in centre.tell(*words)["sites"]] == SITES
        hub = HubFiles(centre.office / "hub", tmp_path / "hub-files")
        report = centre.home / "runs" / RUN / "report" / "report.json"
        wait_for(lambda: hub.look() or report.is_file(), timeout_s=180, notes=notes)
        expected, sent = alone.result()

    found = record_of(centre.home / "runs" / RUN)
    assert params_of(found) == params_of(expected)
    assert found["run"]["chosen"] == expected["run"]["chosen"]
    assert found == expected
    check_nothing_in_the_clear(hub, sent)
    check_nothing_to_read(ways["oslo"], hub, sent)
    check_what_left(centre, sites, hub, found, sent)
    check_status(sites, digest)
    end(*agents)  # squid writes a tunnel down when it ends
    check_logs(proxies)
    check_inspection(sites["oslo"])

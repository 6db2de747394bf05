import json
import os
import shutil
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hospitium.site import confinement, isolation
from hospitium.site.isolation import ENVIRONMENT, environment, probe

NOBODY = 65534
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process do this")
namespaces = pytest.mark.skipif(
    sys.platform != "linux"
    or shutil.which("unshare") is None
    or subprocess.run(["unshare", "-rnm", "true"], capture_output=True).returncode != 0,
    reason="this kernel or container refuses user namespaces",
)
HEAD = """
import ctypes, json, os, socket, sys
from pathlib import Path
from hospitium.site import confinement, isolation
def tried(work):
    try:
        work()
    except OSError as error:
        return error.errno
    return 0
def unix(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(path)
told = json.loads(sys.argv[1])
"""


def child(code, *, user=None, **told):
    """Run code in a process of its own, and return what it left in ``found``."""
    as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
    program = f"{HEAD}\n{code}\nprint(json.dumps(found))"
    done = subprocess.run(
        [*as_user, sys.executable, "-c", program, json.dumps(told)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def _to_nobody(*paths):
    """Give paths to a user without any rights."""
    if os.geteuid() != 0:
        pytest.skip("another user can be tried by root only")
    for path in paths:
        os.chown(path, NOBODY, NOBODY)


# --- the network ---------------------------------------------------------------------------------


@namespaces
@pytest.mark.parametrize("user", [None, NOBODY])
def test_a_process_that_reached_the_listener_reaches_nothing_after_it_is_cut_off(listener, user):
    if user:
        _to_nobody()
    code = """
found = [isolation.probe([told["at"]])]
isolation.cut_off()
found.append(isolation.probe([told["at"]]))
"""
    assert child(code, user=user, at=listener) == ["not_cut_off", "cut_off"]


@namespaces
@pytest.mark.parametrize("fence", ["enter_empty_namespaces", "refuse_sockets"])
def test_each_of_the_two_fences_holds_alone(listener, fence):
    code = """
getattr(confinement, told["fence"])()
found = isolation.probe([told["at"]])
"""
    assert child(code, at=listener, fence=fence) == "cut_off"


@namespaces
def test_an_abstract_unix_socket_stays_behind_with_the_network():
    name = f"\0hospitium-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(name)
        listening.listen()
        code = """
found = [tried(lambda: unix(told["name"]))]
confinement.enter_empty_namespaces()
found.append(tried(lambda: unix(told["name"])))
"""
        before, after = child(code, name=name)
    assert before == 0 and after != 0


@linux
def test_a_unix_socket_in_a_folder_is_out_of_reach_too(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        code = """
found = [tried(lambda: unix(told["path"]))]
isolation.cut_off()
found.append(tried(lambda: unix(told["path"])))
"""
        assert child(code, path=path) == [0, 1]


@linux
def test_no_other_call_leads_to_a_socket_or_into_another_process():
    calls = {
        "x86_64": [41, 53, 101, 308, 310, 311, 425, 438, 0x40000000 | 41, 0x40000000 | 39],
        "aarch64": [198, 199, 117, 268, 270, 271, 425, 438],
    }[os.uname().machine]
    code = """
confinement.refuse_sockets()
libc = ctypes.CDLL(None, use_errno=True)
found = [[libc.syscall(call, -1, 0, 0, 0, 0, 0), ctypes.get_errno()] for call in told["calls"]]
"""
    assert child(code, calls=calls) == [[-1, 1]] * len(calls)


def test_a_processor_without_a_filter_is_said(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(OSError, match="riscv64"):
        confinement.refuse_sockets()


def test_the_probe_reaches_what_can_be_reached(listener):
    assert probe([listener]) == probe([f"http://{listener}/hub"]) == "not_cut_off"


@namespaces
@pytest.mark.parametrize(
    ("addresses", "servers"),
    [(["127.0.0.1:9"], []), (["https://192.0.2.1", "https://hub.invalid"], ["127.0.0.53"])],
    ids=["somebody refuses", "there is a way to a name server"],
)
def test_without_an_answer_the_probe_still_sees_that_there_is_a_network(addresses, servers):
    """In a namespace with loopback up and nothing else, then in one with nothing at all."""
    code = """
import fcntl, struct
confinement.enter_empty_namespaces()
isolation._name_servers = lambda: told["servers"]
found = [isolation.probe(told["addresses"])]
with socket.socket() as asked:
    fcntl.ioctl(asked, 0x8914, struct.pack("16sh14x", b"lo", 1))  # up
found.append(isolation.probe(told["addresses"]))
"""
    found = child(code, addresses=addresses, servers=servers)
    assert found == ["cut_off", "not_cut_off"]


def test_a_process_with_more_than_one_thread_does_not_claim_to_be_cut_off():
    if sys.platform != "linux":
        pytest.skip("only Linux lets a process do this")
    code = """
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
try:
    isolation.cut_off()
except AssertionError as error:
    found = str(error)
"""
    assert "other threads" in child(code)


# --- keys ----------------------------------------------------------------------------------------


@namespaces
@pytest.mark.parametrize("user", [None, NOBODY])
def test_hidden_folders_are_empty_for_good_and_only_inside(tmp_path, user):
    key = tmp_path / "keys" / "a.key"
    key.parent.mkdir()
    key.write_text("secret")
    if user:
        _to_nobody(tmp_path, key.parent, key)
    code = """
folder = Path(told["folder"])
isolation.cut_off(isolation.View(hidden=(folder,)))
libc = ctypes.CDLL(None, use_errno=True)
found = [len([*folder.iterdir()]), tried((folder / "a.key").read_text)]
found += [libc.umount(bytes(folder)), libc.unshare(0x10020000), libc.umount(bytes(folder))]
found += [len([*folder.iterdir()]), isolation.probe([], view=isolation.View(hidden=(folder,)))]
"""
    entries, missing, undone, _, undone_deeper, later, found = child(
        code, user=user, folder=str(key.parent)
    )
    assert (entries, missing, undone, undone_deeper, later) == (0, 2, -1, -1, 0)
    assert found == "cut_off" and key.read_text() == "secret"


@namespaces
def test_a_hidden_folder_in_which_it_was_started_is_hidden_too(tmp_path):
    (tmp_path / "a.key").write_text("secret")
    code = """
os.chdir(told["folder"])
isolation.cut_off(isolation.View(hidden=(Path(told["folder"]),)))
found = [tried(Path("a.key").read_text), [*os.listdir()]]
"""
    assert child(code, folder=str(tmp_path)) == [2, []]


@namespaces
def test_keys_that_can_be_seen_are_not_cut_off_without_network_either(tmp_path):
    (tmp_path / "a.key").write_text("secret")
    code = """
confinement.enter_empty_namespaces()
folder = Path(told["folder"])
views = [isolation.View(hidden=hidden) for hidden in ((), (folder,), (folder / "none",))]
found = [isolation.probe([], view=view) for view in views]
"""
    assert child(code, folder=str(tmp_path)) == ["cut_off", "not_cut_off", "cut_off"]


@namespaces
@pytest.mark.parametrize("user", [None, NOBODY])
def test_nothing_of_an_installation_can_be_changed_but_what_is_left_open(tmp_path, user):
    home = tmp_path / "home"
    outbox, log = home / "work" / "out box", home / "work" / "site.log"
    outbox.mkdir(parents=True)
    policy, mine = home / "policy.toml", outbox / "a"
    for path in (policy, mine, log):
        path.write_text("before")
    if user:
        _to_nobody(tmp_path, home, outbox.parent, outbox, policy, mine, log)
    code = """
home, outbox, log = (Path(told[name]) for name in ("home", "outbox", "log"))
view = isolation.View(protected=(home,), writable=(outbox, log))
os.chdir(home)
found = [[isolation.probe([], view=view)]]
isolation.cut_off(view)
libc = ctypes.CDLL(None, use_errno=True)
ways = [
    lambda: (home / "policy.toml").write_text("after"), lambda: Path("policy.toml").open("a"),
    (home / "policy.toml").unlink, lambda: (home / "policy.toml").rename(home / "b"),
    lambda: Path("link").symlink_to("/"), lambda: (outbox / "a").rename("policy.toml"),
    lambda: os.link("policy.toml", outbox / "c"), log.unlink,
    lambda: log.rename(outbox / "d"), lambda: outbox.rename(outbox.parent / "e"),
    lambda: home.rename(home.parent / "f"), (home.parent / "g").touch,
    lambda: Path("/dev/shm/hospitium-g").touch(), lambda: home.chmod(0o777),
]
found.append([tried(way) for way in ways])
found.append([libc.unshare(0x10020000) and 0, libc.umount(bytes(home)), libc.umount(bytes(log))])
found.append([tried(way) for way in ways])
(outbox / "a").write_text("after")
(outbox / "a").rename(outbox / "b")
with log.open("a") as file:
    file.write(" and after")
found.append([isolation.probe([], view=view)])
Path("/dev/null").write_text("x")
"""
    before, first, undone, second, after = child(
        code, user=user, home=str(home), outbox=str(outbox), log=str(log)
    )
    assert before == ["not_cut_off"] and after == ["cut_off"] and undone == [0, -1, -1]
    read_only, other_device = 30, 18
    changes = [read_only] * 5 + [other_device] * 2 + [read_only, other_device] + [read_only] * 5
    assert first == second == changes
    assert policy.read_text() == "before" and log.read_text() == "before and after"
    assert [path.name for path in outbox.iterdir()] == ["b"]
    assert (outbox / "b").read_text() == "after"


@namespaces
def test_whatever_is_mounted_is_protected_too_and_keeps_its_other_options(tmp_path):
    for name in ("a disk", "own"):
        (tmp_path / name).mkdir()
    code = """
home, nosuid = Path(told["home"]), 2
confinement.enter_empty_namespaces()
for name in ("a disk", "own"):
    confinement._call("mount", b"none", bytes(home / name), b"tmpfs", nosuid, None)
confinement.protect(but=[home / "own", home / "missing"])
places = [home / "a", home / "a disk" / "a", home / "own" / "a"]
found = [tried(place.touch) for place in places]
found += [os.statvfs(place.parent).f_flag & 3 for place in places[1:]]
"""
    assert child(code, home=str(tmp_path)) == [30, 30, 0, 3, 2]


@namespaces
def test_a_worker_sees_nothing_of_its_parents_memory_environment_or_network():
    code = f"""
parent = Path("/proc", str({os.getpid()}))
looks = [
    (parent / "environ").read_bytes, lambda: os.readlink(parent / "ns/net"),
    lambda: os.readlink(parent / "fd/0"), (parent / "mem").open,
]
found = [[tried(look) for look in looks]]
isolation.cut_off()
found.append([tried(look) for look in looks])
"""
    before, after = child(code)
    assert before == [0] * 4 and after == [13] * 4


@linux
def test_a_shielded_agent_is_closed_to_its_own_users_other_processes():
    user = NOBODY if os.geteuid() == 0 else None
    code = """
import subprocess
look = ["head", "-c0", f"/proc/{os.getpid()}/mem"]
codes = [subprocess.run(look, capture_output=True).returncode]
isolation.shield()
codes.append(subprocess.run(look, capture_output=True).returncode)
import resource
found = [*codes, resource.getrlimit(resource.RLIMIT_CORE)[0]]
"""
    assert child(code, user=user) == [0, 1, 0]


# --- environment and limits ----------------------------------------------------------------------


@given(st.dictionaries(st.text(max_size=12) | st.sampled_from(ENVIRONMENT), st.text(max_size=5)))
def test_only_listed_variables_pass_and_they_pass_unchanged(given_environment):
    kept = environment(given_environment)
    assert kept == {k: v for k, v in given_environment.items() if k.upper() in ENVIRONMENT}


def test_no_proxy_key_token_or_setting_of_ours_is_on_the_list():
    ours = ["HOSPITIUM_HOME", "HOSPITIUM_SITE_KEY", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"]
    others = ["GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK", "HOME", "PYTHONPATH"]
    secret = dict.fromkeys([*ours, *others], "canary")
    assert environment({**secret, "Path": "x", "TZ": "y"}) == {"Path": "x", "TZ": "y"}


@linux
def test_limits_bound_memory_priority_and_dumps():
    code = """
import resource
isolation.limit(isolation.Limits(memory_gb=0.2, nice=5))
found = [os.nice(0), *resource.getrlimit(resource.RLIMIT_CORE)]
small = bytearray(50_000_000)
try:
    bytearray(300_000_000)
except MemoryError:
    found.append("MemoryError")
"""
    nice = os.nice(0)
    assert child(code) == [min(nice + 5, 19), 0, 0, "MemoryError"]


@linux
def test_files_of_a_cut_off_process_are_private(tmp_path):
    code = """
isolation.cut_off()
Path(told["path"]).write_text("x")
found = oct(Path(told["path"]).stat().st_mode)
"""
    assert child(code, path=str(tmp_path / "file")) == "0o100600"


def test_elsewhere_nothing_is_taken_away_and_nothing_is_claimed(monkeypatch, listener):
    monkeypatch.setattr(sys, "platform", "win32")
    before = os.umask(0o022)
    try:
        isolation.cut_off()
        isolation.shield()
        isolation.limit(isolation.Limits(memory_gb=0.001, nice=19))
        assert os.umask(0o022) == 0o077
    finally:
        os.umask(before)
    assert probe([listener]) == "not_cut_off"
    assert len(bytearray(10**7)) == 10**7

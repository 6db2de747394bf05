"""Real squid proxies as hospitals configure them: CONNECT only, inspecting TLS, with a login."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import scanner
from namespaces import HUB_ADDRESS, HUB_NAME, Machine, Network

from hospitium.wire.certificates import make_authority

Kind = Literal["connect_only", "inspecting", "login"]
PORT = 3128
USER, PASSWORD = "oslo", "open sesame"
MAX_BODY_MB = 2
_CERTGEN = Path("/usr/lib/squid/security_file_certgen")
_NCSA = Path("/usr/lib/squid/basic_ncsa_auth")

_COMMON = """
pid_filename none
visible_hostname proxy.test
hosts_file {folder}/hosts
cache deny all
access_log stdio:{folder}/access.log
cache_log {folder}/cache.log
coredump_dir {folder}
logfile_rotate 0
netdb_filename none
pinger_enable off
shutdown_lifetime 0 seconds
dns_nameservers 192.0.2.53
read_timeout {idle_s} seconds
client_idle_pconn_timeout {idle_s} seconds
server_idle_pconn_timeout {idle_s} seconds
acl https port 443
acl CONNECT method CONNECT
"""
_SCANS = f"""
icap_enable on
icap_service scan reqmod_precache icap://127.0.0.1:{scanner.PORT}/scan bypass=off
adaptation_access scan allow all
"""
_OF_KIND: dict[Kind, str] = {
    "connect_only": """
http_port {address}:3128
http_access deny !CONNECT
http_access deny !https
http_access allow all
""",
    "inspecting": """
http_port {address}:3128 ssl-bump tls-cert={folder}/ca.pem generate-host-certificates=on
sslcrtd_program {certgen} -s {folder}/certificates -M 4MB
sslcrtd_children 1
tls_outgoing_options cafile={folder}/hub_ca.pem
request_body_max_size {max_body_mb} MB
acl hello at_step SslBump1
ssl_bump peek hello
ssl_bump bump all
http_access deny CONNECT !https
http_access allow all
""",
    "login": """
http_port {address}:3128
auth_param basic program {ncsa} {folder}/passwords
auth_param basic children 1
auth_param basic realm hospital
acl known proxy_auth REQUIRED
http_access deny !CONNECT
http_access deny !https
http_access allow known
http_access deny all
""",
}


def why_not() -> str:
    """Return why no squid can be started here; nothing, if it can."""
    if shutil.which("squid") is None:
        return "squid is missing (Debian: squid-openssl; .ci/install-servers installs it)"
    found = subprocess.run(["squid", "-v"], capture_output=True, text=True).stdout
    if "--enable-ssl-crtd" not in found:
        return "this squid cannot inspect TLS (Debian: squid-openssl instead of squid)"
    return ""


class Proxy:
    """One squid on its machine.

    Args:
        network: Where it runs.
        machine: Its machine, from `Network.site_behind_proxy`.
        kind: How it is configured.
        hub_ca: The certificate of the authority behind the hub's, in PEM: an inspecting proxy has
            to trust it.
        idle_s: After so many seconds of silence a connection is cut.
        scans: Whether an inspecting proxy hands the body of every request to a scanner, which keeps
            what it is shown; see `bodies`.
    """

    def __init__(
        self,
        network: Network,
        machine: Machine,
        kind: Kind,
        *,
        hub_ca: bytes = b"",
        idle_s: int = 60,
        scans: bool = False,
    ) -> None:
        self.kind = kind
        self._folder = Path(tempfile.mkdtemp(prefix="squid-"))  # squid's user can enter it
        self.ca = self._written(hub_ca) if kind == "inspecting" else b""
        login = f"{USER}:{PASSWORD.replace(' ', '%20')}@" if kind == "login" else ""
        self.url = f"http://{login}{machine.address}:{PORT}"
        self.url_without_login = f"http://{machine.address}:{PORT}"
        known = {
            "folder": self._folder,
            "address": machine.address,
            "idle_s": idle_s,
            "certgen": _CERTGEN,
            "ncsa": _NCSA,
            "max_body_mb": MAX_BODY_MB,
        }
        config = self._folder / "squid.conf"
        text = (_COMMON + _OF_KIND[kind]).format(**known)
        config.write_text(text + (_SCANS if scans else ""), encoding="ascii")
        (self._folder / "hosts").write_text(f"{HUB_ADDRESS} {HUB_NAME}\n", encoding="ascii")
        password = hashlib.md5(PASSWORD.encode()).hexdigest()  # a form that squid's helper knows
        (self._folder / "passwords").write_text(f"{USER}:{password}\n", encoding="ascii")
        for path in (self._folder, *self._folder.rglob("*")):
            with suppress(LookupError):
                shutil.chown(path, "proxy")
        name = f"h{self._folder.name[6:].replace('_', '')}"
        self._words = ["squid", "-N", "-n", name, "-f", config]
        self._network, self._machine = network, machine
        if scans:
            self._start_scanner()
        self.start()

    def start(self) -> None:
        """Start it, once more after `stop`; return when it accepts connections."""
        log = self._folder / "cache.log"
        log.unlink(missing_ok=True)
        self._process = self._network.start(self._machine, self._words, stderr=subprocess.DEVNULL)
        self._wait(log)

    def stop(self) -> None:
        """Stop it: every connection is cut; it can clear its shared memory."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        self._process.kill()
        self._process.wait()

    def log(self) -> str:
        """Return what went through: squid's access log."""
        path = self._folder / "access.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def bodies(self) -> bytes:
        """Return the bodies of all requests, as they are where the proxy has opened TLS."""
        return (self._folder / "bodies").read_bytes()

    def close(self) -> None:
        """Stop it and remove its files."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _written(self, hub_ca: bytes) -> bytes:
        """Write the files of an inspecting proxy; return the certificate of its authority."""
        ours = make_authority("Hospital Proxy CA", now=datetime.now(UTC))
        (self._folder / "ca.pem").write_bytes(ours.both)
        (self._folder / "hub_ca.pem").write_bytes(hub_ca)
        made = [_CERTGEN, "-c", "-s", self._folder / "certificates", "-M", "4MB"]
        subprocess.run(made, check=True, capture_output=True)
        return ours.certificate

    def _start_scanner(self) -> None:
        """Start the scanner, and wait until it listens."""
        words = [sys.executable, "-I", scanner.__file__, self._folder / "bodies"]
        self._network.start(self._machine, words)
        until = time.monotonic() + 20
        listens = f"127.0.0.1:{scanner.PORT}"
        while listens not in self._machine.run("ss", "-ltn").stdout:
            assert time.monotonic() < until, "the scanner did not start"
            time.sleep(0.05)

    def _wait(self, log: Path) -> None:
        """Wait until it accepts connections."""
        until = time.monotonic() + 20
        while not (log.exists() and "Accepting" in log.read_text(encoding="utf-8")):
            said = log.read_text(encoding="utf-8") if log.exists() else ""
            assert self._process.poll() is None and time.monotonic() < until, said
            time.sleep(0.05)

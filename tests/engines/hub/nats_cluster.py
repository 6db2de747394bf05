"""A real NATS cluster on this machine: ``nats-server`` processes that are killed and come back."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from hospitium.engines.hub.nats_settings import NatsSettings, user_name
from hospitium.wire.signing import SigningKey


def server_program() -> str | None:
    """Return the program of PATH, or the one that the wheel puts beside Python."""
    beside = Path(sys.executable).with_name("nats-server")
    return str(beside) if beside.is_file() else shutil.which("nats-server")


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


class NatsCluster:
    """Nodes that know each other; with certificates, all of them speak TLS and ask for a key.

    Args:
        folder: For their files.
        size: How many.
        tls: Authority, certificate and key of all nodes.
        users: Lines of the configuration that say which keys may do what.
    """

    def __init__(
        self,
        folder: Path,
        *,
        size: int = 3,
        tls: tuple[Path, Path, Path] | None = None,
        users: str = "",
        key: SigningKey | None = None,
        more: str = "",
    ) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self.ports = free_ports(size)
        self._routes = free_ports(size)
        self._tls = tls
        self._key = key
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * size
        for index in range(size):
            self._config(index).write_text(self._text(index, users=users, more=more))

    def __enter__(self) -> NatsCluster:
        for index in range(len(self.ports)):
            self.start(index)
        return self

    def __exit__(self, *_: object) -> None:
        for index in range(len(self.ports)):
            self.kill(index)

    def settings(self, **more: object) -> NatsSettings:
        scheme = "tls" if self._tls else "nats"
        more.setdefault("urls", tuple(f"{scheme}://127.0.0.1:{port}" for port in self.ports))
        more.setdefault("max_bytes", 1 << 30)
        more.setdefault("patience_s", 60.0)
        return NatsSettings(ca_file=self._tls[0] if self._tls else None, key=self._key, **more)

    def start(self, index: int) -> None:
        program = server_program()
        assert program is not None
        with (self._folder / f"node-{index}.log").open("ab") as log:
            self._processes[index] = subprocess.Popen(
                [program, "-c", str(self._config(index))], stdout=log, stderr=log
            )

    def kill(self, index: int) -> None:
        """End a node as ``kill -9`` does."""
        process = self._processes[index]
        if process is not None:
            process.kill()
            process.wait()
        self._processes[index] = None

    def is_up(self, index: int) -> bool:
        """Whether a node answers."""
        try:
            with socket.create_connection(("127.0.0.1", self.ports[index]), timeout=1) as found:
                return found.recv(4) == b"INFO"
        except OSError:
            return False

    def wait(self, index: int) -> None:
        for _ in range(1000):
            if self.is_up(index):
                return
            threading.Event().wait(0.02)
        raise AssertionError((self._folder / f"node-{index}.log").read_text()[-2000:])

    def wipe(self) -> None:
        """Delete what all nodes stored; they must be down."""
        assert not any(self._processes)
        for index in range(len(self.ports)):
            shutil.rmtree(self._folder / f"store-{index}", ignore_errors=True)

    def rss_mb(self) -> list[int]:
        """Return the memory of each node that is up."""
        statuses = [
            Path(f"/proc/{process.pid}/status").read_text()
            for process in self._processes
            if process is not None
        ]
        return [int(text.split("VmHWM:")[1].split()[0]) >> 10 for text in statuses]

    def _config(self, index: int) -> Path:
        return self._folder / f"node-{index}.conf"

    def _text(self, index: int, *, users: str, more: str) -> str:
        name = f"node-{index}"
        store = self._folder / f"store-{index}"
        text = (
            f'server_name: "{name}"\nlisten: "127.0.0.1:{self.ports[index]}"\n'
            "max_payload: 8MB\n"
            f'jetstream {{ store_dir: "{store.as_posix()}", max_file_store: 4GB, '
            "sync_interval: always }\n" + more
        )
        tls = ""
        if self._tls is not None:
            ca, certificate, key = (path.as_posix() for path in self._tls)
            files = f'cert_file: "{certificate}", key_file: "{key}", ca_file: "{ca}"'
            text += f"tls {{ {files} }}\n"
            tls = f"tls {{ {files}, verify: true }}"
        if self._key is not None and not users:
            users = f"{{ nkey: {user_name(self._key)} }}"
        if users:
            text += f"authorization {{ users: [ {users} ] }}\n"
        if len(self.ports) > 1:
            routes = _listed(self._routes)
            text += (
                f'cluster {{ name: "c", listen: "127.0.0.1:{self._routes[index]}", '
                f"routes: [{routes}]\n{tls} }}\n"
            )
        return text


def _listed(ports: Sequence[int]) -> str:
    return ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)

"""One measurement of Flower, in Flower's own environment; prints one JSON line at the end.

``python flower_run.py FOLDER NUM_SITES NUM_VALUES NUM_ROUNDS CA CERTIFICATE KEY``. A SuperLink over
TLS, N SuperNodes, and a stock FedAvg app; all are processes of their own, as Flower starts them. A
round's time is from the moment that FedAvg begins it to the moment that it begins the next one.
"""

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

BIN = Path(sys.executable).parent
PATIENCE_S = 900


def main() -> None:
    """Run one app and print the times of its rounds, and the memory of the server's processes."""
    folder = Path(sys.argv[1]).resolve()
    num_sites, num_values, num_rounds = (int(text) for text in sys.argv[2:5])
    ca, certificate, key = (Path(text).resolve() for text in sys.argv[5:8])
    home, times, port = folder / "home", folder / "times", _free_port()
    home.mkdir()
    (home / "config.toml").write_text(
        '[superlink]\ndefault = "bench"\n\n[superlink.bench]\n'
        f'address = "127.0.0.1:{port}"\nroot-certificates = "{ca}"\n'
    )
    os.environ |= {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    peaks: dict[int, float] = {}
    is_over = threading.Event()
    started: list[subprocess.Popen[bytes]] = []
    with (folder / "log").open("wb") as log:
        try:
            link = _start(
                "flower-superlink", "--port", port, "--disable-runtime-dependency-installation",
                "--ssl-ca-certfile", ca, "--ssl-certfile", certificate, "--ssl-keyfile", key,
                log=log,
            )  # fmt: skip
            started.append(link)
            watcher = threading.Thread(target=_watch, args=(link.pid, peaks, is_over))
            watcher.start()
            _wait_for(port)
            for _ in range(num_sites):
                started.append(
                    _start(
                        "flower-supernode",
                        "--superlink",
                        f"127.0.0.1:{port}",
                        "--root-certificates",
                        ca,
                        "--port",
                        _free_port(),
                        log=log,
                    )
                )
            config = (
                f"num-values={num_values} num-sites={num_sites} num-rounds={num_rounds} "
                f'times="{times}"'
            )
            app = shutil.copytree(Path(__file__).with_name("flower_app"), folder / "app")
            command = [BIN / "flwr", "run", app, "--run-config", config, "--stream"]
            subprocess.run(command, check=True, stdout=log, stderr=log, timeout=PATIENCE_S)
        finally:
            is_over.set()
            for process in reversed(started):
                process.terminate()
            for process in started:
                process.wait(timeout=60)
            watcher.join()
    begins = [float(line) for line in times.read_text().split()]
    rounds = [after - before for before, after in itertools.pairwise(begins)]
    print(json.dumps({"rounds": rounds, "peak_mb": sum(peaks.values())}))


def _start(name: str, *words: object, log: object) -> subprocess.Popen[bytes]:
    command = [str(BIN / name), *map(str, words)]
    return subprocess.Popen(command, stdout=log, stderr=log)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_for(port: int) -> None:
    """Return once somebody listens at a port."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError("the SuperLink did not start; see the file log")


def _watch(root: int, peaks: dict[int, float], is_over: threading.Event) -> None:
    """Note the peak memory of a process and of everything that it started, in MB."""
    family = {root}
    while not is_over.wait(0.2):
        for process in Path("/proc").glob("[0-9]*"):
            try:
                lines = (process / "status").read_text().splitlines()
            except OSError:
                continue
            fields = dict(line.split(":", 1) for line in lines)
            number = int(process.name)
            if number in family or int(fields["PPid"]) in family:
                family.add(number)
                if "VmHWM" in fields:
                    peaks[number] = int(fields["VmHWM"].split()[0]) * 1024e-6


if __name__ == "__main__":
    main()

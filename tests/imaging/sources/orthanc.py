"""A real Orthanc as a child process: free ports, fresh storage, stopped by its own id."""

import json
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import requests

PLUGINS = Path("/usr/share/orthanc/plugins")
USER, PASSWORD = "hospitium", "a password of the tests"
AE_TITLE, OUR_AE_TITLE = "ORTHANC", "HOSPITIUM"


def why_not() -> str:
    """Return why there is no Orthanc here, or nothing."""
    if shutil.which("Orthanc") is None:
        return "Orthanc is not installed; .ci/install-servers does it"
    if not (PLUGINS / "libOrthancDicomWeb.so").exists():
        return "Orthanc has no DICOMweb plug-in; .ci/install-servers installs it"
    return ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(kw_only=True)
class Orthanc:
    """One server; use it in a ``with`` block."""

    folder: Path
    http_port: int = 0
    dicom_port: int = 0
    listen_port: int = 0
    process: subprocess.Popen | None = None

    def __enter__(self) -> "Orthanc":
        self.http_port = self.http_port or free_port()
        self.dicom_port = self.dicom_port or free_port()
        self.listen_port = self.listen_port or free_port()
        storage = self.folder / "storage"
        storage.mkdir(parents=True, exist_ok=True)
        settings = {
            "Name": "tests",
            "HttpPort": self.http_port,
            "DicomPort": self.dicom_port,
            "DicomAet": AE_TITLE,
            "StorageDirectory": str(storage),
            "IndexDirectory": str(storage),
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "Plugins": [str(p) for p in sorted(PLUGINS.glob("libOrthanc*.so"))],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "DicomModalities": {"hospitium": [OUR_AE_TITLE, "127.0.0.1", self.listen_port]},
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "StableAge": 2,
        }
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(settings))
        with (self.folder / "orthanc.log").open("ab") as log:
            self.process = subprocess.Popen(["Orthanc", path], stdout=log, stderr=log)
        self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def stop(self) -> None:
        """Stop it politely, or else at once."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        self.process.kill()
        self.process.wait(10)

    def store(self, raw: bytes) -> None:
        """Store one DICOM file."""
        answer = self._request("POST", "/instances", data=raw)
        assert answer.json()["Status"] == "Success", answer.text

    def _request(self, method: str, path: str, **options) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(
                method, self.url + path, auth=(USER, PASSWORD), timeout=20, **options
            )
        answer.raise_for_status()
        return answer

    def _wait(self) -> None:
        for _ in range(200):
            assert self.process.poll() is None, (self.folder / "orthanc.log").read_text()
            try:
                self._request("GET", "/system")
                return
            except requests.RequestException:
                time.sleep(0.1)
        raise TimeoutError((self.folder / "orthanc.log").read_text())

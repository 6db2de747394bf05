"""A DICOMweb service that can do what a healthy one does not: shells, lies, cut-off answers."""

import io
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pydicom

TAGS = {
    "StudyInstanceUID": "0020000D",
    "SeriesInstanceUID": "0020000E",
    "SOPInstanceUID": "00080018",
    "PatientID": "00100020",
    "AccessionNumber": "00080050",
    "StudyDate": "00080020",
    "ModalitiesInStudy": "00080061",
    "Modality": "00080060",
    "NumberOfStudyRelatedInstances": "00201208",
}


@dataclass(kw_only=True)
class FakeDicomweb:
    """Answers from a dictionary; what it does wrong is said by its fields.

    Attributes:
        studies: By UID, keywords and values of a study.
        files: By study, series and instance UID.
        ignores_filters: Every query finds everything.
        ignores_paging: Every page is the first.
        statuses: By path, an HTTP status in place of an answer.
        cut_off: Series whose answers end in the middle.
        redirect: Where every request is sent on to.
        asked: Paths and queries of all requests.
        headers: Of all requests.
    """

    studies: dict[str, dict[str, str]] = field(default_factory=dict)
    files: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    ignores_filters: bool = False
    ignores_paging: bool = False
    statuses: dict[str, int] = field(default_factory=dict)
    cut_off: set[str] = field(default_factory=set)
    redirect: str = ""
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def __enter__(self) -> "FakeDicomweb":
        fake = self

        class Handler(BaseHTTPRequestHandler):
            disable_nagle_algorithm = True  # else every answer waits 40 ms
            wbufsize = 1 << 16

            def do_GET(self):
                fake.answer(self)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_):
                """Say nothing when a client hangs up."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/dicom-web"

    def add(self, raw: bytes, **more: str) -> str:
        """Store one file; return its study UID. ``more`` are keywords of the study."""
        data = pydicom.dcmread(io.BytesIO(raw))
        study = self.studies.setdefault(
            data.StudyInstanceUID,
            {"PatientID": data.PatientID, "StudyDate": data.StudyDate, "AccessionNumber": ""},
        )
        study.update({"ModalitiesInStudy": data.Modality, **more})
        series = self.files.setdefault(data.StudyInstanceUID, {}).setdefault(
            data.SeriesInstanceUID, {}
        )
        series[data.SOPInstanceUID] = raw
        return data.StudyInstanceUID

    def add_shell(self, uid: str, **more: str) -> None:
        """Make a study without images."""
        self.studies[uid] = {"PatientID": "nobody", "StudyDate": "20200101", **more}

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        path, query = parts.path.removeprefix("/dicom-web"), parse_qs(parts.query)
        self.asked.append(f"{path}?{parts.query}")
        self.headers.append(dict(request.headers))
        if self.redirect:
            request.send_response(302)
            request.send_header("Location", self.redirect)
            request.send_header("Content-Length", "0")
            request.end_headers()
        elif path in self.statuses:
            request.send_response(self.statuses[path])
            request.send_header("Content-Length", "0")
            request.end_headers()
        elif found := re.fullmatch(r"/studies/([^/]+)/series/([^/]+)(?:/instances/([^/]+))?", path):
            self._send_files(request, *found.groups())
        else:
            self._send_json(request, self._page(self._found(path, query), query))

    def _found(self, path: str, query: dict[str, list[str]]) -> list[dict[str, str]]:
        _, _, *rest = path.split("/")
        if not rest:
            rows = [{"StudyInstanceUID": uid, **study} for uid, study in self.studies.items()]
            return rows if self.ignores_filters else [row for row in rows if _fits(row, query)]
        series = self.files.get(rest[0], {})
        modality = self.studies[rest[0]].get("ModalitiesInStudy", "")
        if len(rest) == 2:
            return [{"SeriesInstanceUID": uid, "Modality": modality} for uid in series]
        return [{"SOPInstanceUID": uid} for uid in series.get(rest[2], {})]

    def _page(self, rows: list[dict[str, str]], query: dict[str, list[str]]) -> list:
        offset = 0 if self.ignores_paging else int(query.get("offset", ["0"])[0])
        rows = rows[offset : offset + int(query.get("limit", ["1000"])[0])]
        return [{TAGS[k]: {"vr": "LO", "Value": [v]} for k, v in row.items() if v} for row in rows]

    def _send_json(self, request: BaseHTTPRequestHandler, rows: list) -> None:
        body = json.dumps(rows).encode()
        request.send_response(200)
        request.send_header("Content-Type", "application/dicom+json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _send_files(
        self, request: BaseHTTPRequestHandler, study: str, series: str, instance: str | None
    ) -> None:
        files = self.files[study][series]
        wanted = [files[instance]] if instance else list(files.values())
        head = b"--edge\r\nContent-Type: application/dicom\r\n\r\n"
        body = b"".join(head + raw + b"\r\n" for raw in wanted) + b"--edge--\r\n"
        request.send_response(200)
        kind = 'multipart/related; type="application/dicom"; boundary="edge"'
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: len(body) * 2 // 3] if series in self.cut_off else body)
        request.close_connection = series in self.cut_off


def _fits(row: dict[str, str], query: dict[str, list[str]]) -> bool:
    """Match as real services do: wildcards, and ranges of dates."""
    for keyword in ("PatientID", "AccessionNumber", "StudyInstanceUID", "ModalitiesInStudy"):
        for wanted in query.get(keyword, []):
            pattern = re.escape(wanted).replace(r"\*", ".*")
            if not re.fullmatch(pattern, row.get(keyword, "")):
                return False
    return True

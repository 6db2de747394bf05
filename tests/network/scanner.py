"""The scanner of contents that inspecting proxies hand every request to: ICAP (RFC 3507).

``scanner.py FILE``: each body that it is shown, opened by the proxy, is added to the file. It lets
everything pass.
"""

import socketserver
import sys
import threading
from pathlib import Path

PORT = 1344
_LOCK = threading.Lock()


class Scan(socketserver.StreamRequestHandler):
    """One connection of the proxy."""

    def handle(self) -> None:
        """Answer requests until the proxy has no more."""
        while head := self._head():
            if head.startswith("OPTIONS"):
                self._say("200 OK", "Methods: REQMOD", "Allow: 204", "Encapsulated: null-body=0")
                continue
            parts = dict(
                part.strip().split("=")
                for line in head.splitlines()
                if line.lower().startswith("encapsulated:")
                for part in line.partition(":")[2].split(",")
            )
            asked = self.rfile.read(int(parts.get("req-body") or parts["null-body"]))
            body = b"".join(iter(self._chunk, b"")) if "req-body" in parts else b""
            with _LOCK, Path(sys.argv[1]).open("ab") as file:
                file.write(body)
            if "allow: 204" in head.lower():
                self._say("204 No Content", "Encapsulated: null-body=0")
            else:  # the proxy has not kept it: it wants it back
                self._say("200 OK", f"Encapsulated: req-hdr=0, req-body={len(asked)}")
                self.wfile.write(asked + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))

    def _head(self) -> str:
        """Return the lines up to an empty one; nothing at the end of the connection."""
        lines = iter(self.rfile.readline, b"")
        found = []
        for line in lines:
            if line == b"\r\n":
                break
            found.append(line.decode())
        return "".join(found)

    def _chunk(self) -> bytes:
        """Return the next chunk of a body; nothing for the last one."""
        size = int(self.rfile.readline().partition(b";")[0], 16)
        chunk = self.rfile.read(size)
        self.rfile.readline()
        return chunk

    def _say(self, status: str, *lines: str) -> None:
        text = [f"ICAP/1.0 {status}", 'ISTag: "1"', *lines, "", ""]
        self.wfile.write("\r\n".join(text).encode())


class Scanner(socketserver.ThreadingTCPServer):
    """Listens on this machine alone."""

    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    Scanner(("127.0.0.1", PORT), Scan).serve_forever()

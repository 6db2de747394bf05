"""A web server over TLS that says what it was sent: ``tls_server.py PEM PORT``."""

import json
import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Say(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        """Answer at once, or after the seconds that the path ends with."""
        time.sleep(float(self.path.partition("?")[2] or 0))
        self._say(0)

    def do_PUT(self):
        self._say(len(self.rfile.read(int(self.headers["Content-Length"]))))

    def _say(self, num_bytes):
        body = json.dumps({"bytes": num_bytes, "from": self.client_address[0]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Say nothing on the terminal."""


if __name__ == "__main__":
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1])
    server = ThreadingHTTPServer(("0.0.0.0", int(sys.argv[2])), Say)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()

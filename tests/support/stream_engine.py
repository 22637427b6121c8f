"""An engine that answers its own name, alone in a process: short answers, and long ones as server-sent events.

    POST {"stream": true, "events": 40, "pause_s": 0.1}  40 events, then `data: [DONE]`
    POST {}                                               {"engine": NAME}
    GET /health, GET /count                               ok; how many requests were answered

With a key in ENGINE_KEY a POST without it is refused with 401. It keeps connections open as uvicorn does and closes
idle ones after 1 s; a signal ends it in an answer.
"""

from __future__ import annotations

import argparse
import json
import os
import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = 1
    name = ""
    answered = 0

    def do_GET(self) -> None:
        """Health, or the count of answers."""
        self._whole({"engine": self.name, "answered": Handler.answered})

    def do_POST(self) -> None:
        """A short or a long answer, as the body asks."""
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        if (key := os.environ.get("ENGINE_KEY")) and self.headers["Authorization"] != f"Bearer {key}":
            return self._whole({"error": "no key, or another engine's"}, 401)
        Handler.answered += 1
        if not asked.get("stream"):
            return self._whole({"engine": self.name, "authorization": self.headers["Authorization"]})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(asked["events"]):
            self._chunk("data: " + json.dumps({"engine": self.name, "number": number}) + "\n\n")
            time.sleep(asked["pause_s"])
        self._chunk("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")
        return None

    def _chunk(self, text: str) -> None:
        self.wfile.write(f"{len(text):x}\r\n{text}\r\n".encode())

    def _whole(self, document: dict[str, object], status: int = 200) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Quiet."""


class Server(ThreadingHTTPServer):
    """Quiet when a client or the proxy leaves."""

    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that ended is no news."""


def main() -> None:
    """Serve until killed. `--load-s`: not healthy, and not listening, for so long; `--die`: ends after that."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--load-s", type=float, default=0)
    parser.add_argument("--die", action="store_true")
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
    args, _ = parser.parse_known_args()
    Handler.name = args.name
    time.sleep(args.load_s)
    if args.die:
        sys.exit("out of memory")
    server = Server((args.host, args.port), Handler)
    if args.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*args.tls)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


if __name__ == "__main__":
    main()

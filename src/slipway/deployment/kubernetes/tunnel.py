"""A port of this machine that leads to one Service of a cluster, through its API server, as `kubectl proxy` does.

So a candidate is asked by the same clients as anywhere else, though no port of the cluster is open to us. The API
server takes the header Authorization for itself: an engine that asks for a key answers 401 here.
"""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from slipway.deployment.kubernetes.api import KubernetesAPI
from slipway.errors import SlipwayError

LOOPBACK = "127.0.0.1"


@contextmanager
def tunnel(api: KubernetesAPI, service: str, port: int) -> Iterator[int]:
    """A local port that leads to `port` of a Service for the time of the block. Answers come whole, not as a stream;
    502 where the API server is not reached."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._forward(None)

        def do_POST(self) -> None:
            self._forward(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

        def _forward(self, body: bytes | None) -> None:
            try:
                reply = api.ask(service, port, self.path, None if body is None else json.loads(body))
                status, answer = reply.status, reply.body
            except (SlipwayError, ValueError) as err:
                status, answer = 502, str(err).encode()
            kind = "text/event-stream" if answer.startswith(b"data:") else "application/json"
            with suppress(OSError):  # the client went away
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        def log_message(self, *words: object) -> None:
            """Nothing: requests may hold prompts."""

    server = http.server.ThreadingHTTPServer((LOOPBACK, 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()

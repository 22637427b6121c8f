"""The engine in a pod of the tests' Kubernetes: answers with its release, and does what its mode says.

kubernetes_engine.py PORT RELEASE MODE        MODE: serve | die | silent | slow | key
"""

from __future__ import annotations

import http.server
import json
import os
import sys
import time


class Handler(http.server.BaseHTTPRequestHandler):
    """Every path answers 200 with the release; /health says 503 until it is ready."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Health, and anything else."""
        ready = MODE != "silent" and (MODE != "slow" or time.monotonic() - BEGAN > 1.5)
        self._answer(200 if ready or self.path != "/health" else 503)

    def do_POST(self) -> None:
        """A chat answer as a stream where the request asks for one, else the release."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if b'"stream": true' in body:
            chunk = json.dumps({"choices": [{"delta": {"content": RELEASE}, "finish_reason": "stop"}]})
            self._answer(200, f"data: {chunk}\n\ndata: [DONE]\n\n".encode(), "text/event-stream")
            return
        self._answer(401 if MODE == "key" else 200)

    def log_message(self, *words: object) -> None:
        """Nothing."""

    def _answer(self, status: int, body: bytes = b"", kind: str = "text/plain") -> None:
        body = body or RELEASE.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    PORT, RELEASE, MODE = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    BEGAN = time.monotonic()
    if MODE == "die":
        sys.exit("error: this model is no good")
    http.server.ThreadingHTTPServer((os.environ["POD_IP"], PORT), Handler).serve_forever()

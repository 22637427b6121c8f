"""A pager of the tests: an HTTP server that keeps what Prefect's webhook blocks post to it."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect.blocks.notifications import CustomWebhookNotificationBlock


@contextmanager
def pager() -> Iterator[list[dict[str, Any]]]:
    """What the block `custom-webhook/pager` sent, as `subject` and `text`; `custom-webhook/down` is refused with 503.
    The blocks are saved at the Prefect server of the environment."""
    messages: list[dict[str, Any]] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/down":
                messages.append(document)
            self.send_response(503 if self.path == "/down" else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing on the test's output."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for name in ("pager", "down"):
            CustomWebhookNotificationBlock(
                name=name,
                url=f"http://127.0.0.1:{server.server_address[1]}/{name}",
                json_data={"subject": "{{subject}}", "text": "{{body}}"},
            ).save(name, overwrite=True)
        yield messages
    finally:
        server.shutdown()
        server.server_close()

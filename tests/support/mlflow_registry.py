"""MLflow's registry as far as its REST API is asked by commands: a real HTTP server in a thread, with one's own data.

Answers were read off MLflow 3.17.2: 404 for a model that is not there, 400 for an alias that it does not have.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Registry:
    """`versions`: (model, engine digest) -> version; `aliases`: (model, alias) -> version; `status`: set to fail."""

    url: str = ""
    versions: dict[tuple[str, str], str] = field(default_factory=dict)
    aliases: dict[tuple[str, str], str] = field(default_factory=dict)
    status: int = 200
    logins: list[str | None] = field(default_factory=list)

    def get(self, path: str, query: dict[str, str]) -> tuple[int, Any]:
        """Status and answer of a GET."""
        if path.endswith("/registered-models/alias"):
            if query["name"] not in {model for model, _ in self.versions}:
                return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST"}
            version = self.aliases.get((query["name"], query["alias"]))
            digest = next((d for (m, d), v in self.versions.items() if (m, v) == (query["name"], version)), None)
            if version is None:
                return 400, {"error_code": "INVALID_PARAMETER_VALUE"}
            return 200, {"model_version": {"version": version, "tags": [{"key": "digest", "value": digest}]}}
        match = re.fullmatch(r"name = '(.*)' and tags\.digest = '(.*)'", query["filter"])
        assert match
        version = self.versions.get((match[1], match[2]))
        return 200, {"model_versions": [{"version": version}]} if version else {}

    def post(self, document: dict[str, str]) -> tuple[int, Any]:
        """Set an alias."""
        self.aliases[(document["name"], document["alias"])] = document["version"]
        return 200, {}


@contextmanager
def registry() -> Iterator[Registry]:
    """A registry that answers at its `url` for the time of the block."""
    data = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            self._answer(*data.get(parts.path, {k: v[0] for k, v in parse_qs(parts.query).items()}))

        def do_POST(self) -> None:
            self._answer(*data.post(json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

        def _answer(self, status: int, document: Any) -> None:
            data.logins.append(self.headers.get("Authorization"))
            body = json.dumps(document).encode()
            self.send_response(status if data.status == 200 else data.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing between a test's lines."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    data.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield data
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

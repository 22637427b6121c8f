"""Repositories with versions of a raw file: git and DVC themselves, an origin, and a remote: a folder, or a server
of objects over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from slipway.ops.commands import dvc, git

RAW = "data/x.jsonl"
FIRST, SECOND = '{"a": 1}\n', '{"a": 1}\n{"a": 2}\n'
PERSON = ("-c", "user.name=t", "-c", "user.email=t@t")


def do(root: Path, *words: str) -> str:
    """A git or dvc command that must succeed."""
    code, text = {"git": git, "dvc": dvc}[words[0]](root, *words[1:])
    assert code == 0, text
    return text


def commit(root: Path, text: str) -> None:
    """`text` as the next version of the raw file: added to DVC, committed."""
    (root / RAW).write_text(text)
    do(root, "dvc", "add", "-q", RAW)
    do(root, "git", "add", "-A")
    do(root, "git", *PERSON, "commit", "-qm", text)


def repository_in(folder: Path, remote: str) -> Path:
    """A clone in `folder` with one committed version, the origin `origin.git` beside it, and a DVC remote."""
    do(folder, "git", "init", "-q", "--bare", "-b", "main", "origin.git")
    do(folder, "git", "clone", "-q", "origin.git", "clone")
    root = folder / "clone"
    do(root, "git", "checkout", "-q", "-b", "main")
    do(root, "dvc", "init", "-q")
    do(root, "dvc", "config", "core.analytics", "false")
    do(root, "dvc", "remote", "add", "-q", "-d", "store", remote)
    if remote.startswith("http"):
        do(root, "dvc", "remote", "modify", "-q", "store", "method", "PUT")
    (root / "data").mkdir()
    commit(root, FIRST)
    do(root, "git", "push", "-q", "-u", "origin", "main")
    return root


def another_clone(root: Path, name: str) -> Path:
    """A further clone of the origin beside `root`."""
    do(root.parent, "git", "clone", "-q", "origin.git", name)
    return root.parent / name


@contextmanager
def object_server() -> Iterator[str]:
    """A server that takes objects by PUT and gives them by GET, as object stores do; its URL."""
    objects: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            if self.headers.get("Transfer-Encoding", "") == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                objects[self.path] = b"".join(parts)
            else:
                objects[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(201, b"")

        def do_GET(self) -> None:
            body = objects.get(self.path)
            self._answer(404 if body is None else 200, body or b"")

        do_HEAD = do_GET

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/bucket"
        finally:
            server.shutdown()
            thread.join()

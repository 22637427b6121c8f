"""An OpenAI-compatible server that does what the last message says: answers, and every way to fail an engine knows.

Run as a program it takes llama-server's flags that it needs. `bundle` makes an engine bundle around it, for tests of
what happens around an engine; tests/lab runs the real one.

    "refuse"       HTTP 400 with a reason         "cut"     half an answer, then the connection closes
    "flaky ..."    the first time, no response    "die"     the process ends
    "say ..."      the rest, word by word         other     {"intent": <message>}
    "escape ..."   the rest, events in ASCII, <half> half a surrogate pair
    "call A then B"    calls of tools A and B
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar


class Handler(BaseHTTPRequestHandler):
    """Answers health checks and chat completions as the last message asks for; keeps every request's body in
    `asked`."""

    seen: ClassVar[set[str]] = set()
    asked: ClassVar[list[dict[str, Any]]] = []

    def do_GET(self) -> None:
        """Every path is healthy."""
        self._reply(200, {"status": "ok"})

    def do_POST(self) -> None:
        """Stream the answer that the last message scripts."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        authorization = self.headers["Authorization"]
        self.asked.append({**body, "authorization": authorization} if authorization else body)
        message: str = body["messages"][-1]["content"]
        if body.get("logprobs"):
            return self._reply(400, {"error": {"message": "log-probabilities are not supported"}})
        if message == "die":
            os._exit(3)
        if message == "refuse":
            return self._reply(400, {"error": {"message": "the request is too long"}})
        if message.startswith("flaky") and message not in self.seen:
            self.seen.add(message)
            return None
        if message.startswith("call "):
            return self._call(message.removeprefix("call ").split(" then "))
        if message.startswith("escape "):
            return self._stream(message.removeprefix("escape ").replace("<half>", "\ud800"), cut=False, escaped=True)
        answer = message.removeprefix("say ") if message.startswith("say ") else json.dumps({"intent": message})
        if not body.get("stream"):
            choice = {"message": {"content": answer}, "finish_reason": "stop"}
            return self._reply(200, {"choices": [choice], "usage": {"completion_tokens": len(answer.split(" "))}})
        return self._stream(answer, cut=message == "cut")

    def _call(self, names: list[str]) -> None:
        self.send_response(200)
        self.end_headers()
        for index, name in enumerate(names):
            for function in ({"name": name, "arguments": ""}, {"arguments": '{"on"'}, {"arguments": ": 1}"}):
                self._event({"choices": [{"delta": {"tool_calls": [{"index": index, "function": function}]}}]})
        self._event({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})
        self._event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})

    def _stream(self, answer: str, *, cut: bool, escaped: bool = False) -> None:
        self.send_response(200)
        self.end_headers()
        pieces = [p + " " for p in answer.split(" ")]
        pieces[-1] = pieces[-1].rstrip(" ")
        for piece in pieces:
            self._event({"choices": [{"delta": {"content": piece}, "finish_reason": None}]}, escaped=escaped)
        if not cut:
            self._event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
            self._event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": len(pieces)}})
            self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, doc: dict[str, Any], *, escaped: bool = False) -> None:
        self.wfile.write(f"data: {json.dumps(doc, ensure_ascii=escaped)}\n\n".encode())

    def _reply(self, status: int, doc: dict[str, Any]) -> None:
        data = json.dumps(doc).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """Quiet: a test's output is not the place for requests."""


@contextmanager
def scripted() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server in this process: its API's base URL, and the requests that it got."""
    handler = type("Fresh", (Handler,), {"seen": set(), "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1", handler.asked
        finally:
            server.shutdown()
            thread.join()


def bundle(out: Path, *, program: str | None = None, slots: int = 2) -> Path:
    """An engine bundle whose server is this module, or `program`, a script of your own."""
    from slipway.engines.bundle import SERVE
    from slipway.engines.llamacpp.serve_command import serve_plan
    from slipway.system.processor import cpu_digest  # not above: as a program this file starts in 0.1 s

    out.mkdir(parents=True, exist_ok=True)
    script = out / "llama-server"
    script.write_text(f"#!{sys.executable}\n" + (program or Path(__file__).read_text()))
    script.chmod(0o755)
    (out / "model.gguf").write_bytes(b"GGUF")
    plan = serve_plan(context=512, slots=slots, threads=1)
    plan = plan.model_copy(update={"build": "scripted", "cpu": cpu_digest()})
    (out / SERVE).write_text(plan.model_dump_json())
    return out


def main() -> None:
    """Serve on the host and port of an engine's command line; its other options are ignored."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    args, _ = parser.parse_known_args()
    sys.stderr.write(f"listening on {args.port}\n")
    ThreadingHTTPServer((args.host, args.port), Handler).serve_forever()


if __name__ == "__main__":
    main()

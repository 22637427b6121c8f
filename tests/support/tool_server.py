"""A chat endpoint whose answers are given, tool calls among them, streamed or whole: the contract that kind `tools` of
an agent relies on, where no model with tools can run."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROBED = [{"name": "HassStartTimer", "arguments": '{"minutes": 5}'}]
Scripted = str | Sequence[dict[str, str]]  # a text, or calls


class _Handler(BaseHTTPRequestHandler):
    answers: list[Scripted]
    asked: list[dict[str, Any]]

    def do_POST(self) -> None:
        """The next answer; a required call gets that of the probe."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        answer = PROBED if body.get("tool_choice") == "required" else self.answers.pop(0)
        self._stream(_message(answer)) if body.get("stream") else self._whole(_message(answer))

    def _whole(self, message: dict[str, Any]) -> None:
        finish = "tool_calls" if message.get("tool_calls") else "stop"
        choice = {"index": 0, "message": message, "finish_reason": finish}
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        head = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
        self._send("application/json", json.dumps({**head, "choices": [choice], "usage": usage}).encode())

    def _stream(self, message: dict[str, Any]) -> None:
        calls = [{"index": n, **call} for n, call in enumerate(message.get("tool_calls") or ())]
        delta = {"content": message["content"], **({"tool_calls": calls} if calls else {})}
        events: list[dict[str, Any]] = [
            {"choices": [{"delta": delta}]},
            {"choices": [{"delta": {}, "finish_reason": "tool_calls" if calls else "stop"}]},
            {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}},
        ]
        self._send("text/event-stream", b"".join(f"data: {json.dumps(one)}\n\n".encode() for one in events))

    def _send(self, kind: str, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """Quiet."""


def _message(answer: Scripted) -> dict[str, Any]:
    if isinstance(answer, str):
        return {"role": "assistant", "content": answer}
    calls = [{"id": f"c{n}", "type": "function", "function": dict(call)} for n, call in enumerate(answer)]
    return {"role": "assistant", "content": None, "tool_calls": calls}


@contextmanager
def tool_server(*answers: Scripted) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The API's base URL, and the requests that it got."""
    asked: list[dict[str, Any]] = []
    handler = type("Fresh", (_Handler,), {"answers": list(answers), "asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1", asked
        finally:
            server.shutdown()
            thread.join()

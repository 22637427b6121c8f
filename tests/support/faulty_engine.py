"""An engine whose model is a rule, with the faults that engines had: what a probe of a candidate must tell apart.

The model writes a made-up word after a made-up word, each chosen by the words before it, with log-probabilities that a
start moves by a little noise of its own, as kernels do: a near tie may fall otherwise after the next start. Speaks what
`slipway.engines` asks of a server, health included. As a program it takes llama-server's flags and reads the fault from
its `--model` file, JSON: {"fault": NAME, "delay_s": SECONDS, "noise": NATS}.

    sound           as described                        garbage       any word, as likely as it says
    never_healthy   loads for ever                      loops         says the last 8 words again after 300 tokens
    dies            ends at once                        shifted       other log-probabilities: passes health only
    slow_load       healthy after `delay_s`             empty         answers nothing
    endless         never ends an answer by itself      plain         gives no log-probabilities
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

FAULTS = (
    "sound", "never_healthy", "dies", "slow_load", "endless", "garbage", "loops", "shifted", "empty", "plain"
)  # fmt: skip
LOOP_FROM, LOOP = 300, 8
END = "</s>"


class Model:
    """The rule. `noise`: nats, mean of what a start adds to a log-probability."""

    def __init__(self, fault: str = "sound", noise: float = 0.004) -> None:
        self.fault, self._noise = fault, noise
        self._start = random.Random()

    def next(self, prompt: str, words: list[str], ends: bool) -> list[tuple[str, float]]:
        """The likeliest words and their log-probabilities in nats, the likeliest first."""
        draw = random.Random(hashlib.sha256(" ".join([prompt, *words[-12:]]).encode()).digest())
        count = 6
        scores = [draw.gauss(0, 3) + (4 if i == 0 else 0) for i in range(count)]
        names = [f"w{draw.randrange(4000)}" for _ in range(count)]
        if (
            ends
            and self.fault != "endless"
            and len(words) >= 4 + int(hashlib.sha256(prompt.encode()).hexdigest(), 16) % 9
        ):
            names[0], scores[0] = END, 9.0
        if self.fault == "shifted":
            scores = [score * 1.15 for score in scores]
        if self.fault == "loops" and len(words) > LOOP_FROM:
            names[0], scores[0] = words[-LOOP], 9.0
        if self.fault == "garbage" and names[0] != END:
            names[0], scores[0] = f"w{self._start.randrange(4000)}", 9.0
        total = math.log(sum(math.exp(score) for score in scores))
        pairs = zip(names, scores, strict=True)
        moved = [(name, score - total + self._start.choice((-1, 1)) * self._start.expovariate(1 / self._noise))
                 for name, score in pairs]  # fmt: skip
        return sorted(moved, key=lambda pair: -pair[1])

    def answer(
        self, messages: list[dict[str, Any]], most: int, ends: bool
    ) -> tuple[list[list[tuple[str, float]]], str]:
        """What is likeliest at every position of the answer, the word taken first, and how it ended."""
        prompt, words, positions = json.dumps(messages), list[str](), list[list[tuple[str, float]]]()
        while len(words) < (0 if self.fault == "empty" else most):
            likeliest = self.next(prompt, words, ends)
            if likeliest[0][0] == END:
                return positions, "stop"
            positions.append(likeliest[:5])
            words.append(likeliest[0][0])
        return positions, "stop" if self.fault == "empty" else "length"


class Handler(BaseHTTPRequestHandler):
    """Health, and chat completions whole or as a stream."""

    model: ClassVar[Model]
    healthy_at: ClassVar[float] = 0.0
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Health: 503 until it has loaded."""
        self._reply(200 if time.monotonic() >= self.healthy_at else 503, {"status": "ok"})

    def do_POST(self) -> None:
        """A greedy answer to the messages."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body.get("logprobs") and self.model.fault == "plain":
            return self._reply(400, {"error": {"message": "logprobs is not supported"}})
        positions, finish = self.model.answer(body["messages"], body["max_tokens"], not body.get("ignore_eos"))
        words = [position[0][0] for position in positions]
        usage = {"prompt_tokens": 7, "completion_tokens": len(words)}
        if body.get("stream"):
            return self._stream(words, finish, usage)
        choice: dict[str, Any] = {"message": {"content": " ".join(words)}, "finish_reason": finish}
        if body.get("logprobs"):
            choice["logprobs"] = {"content": [_entry(position) for position in positions]}
        return self._reply(200, {"choices": [choice], "usage": usage})

    def _stream(self, words: list[str], finish: str, usage: dict[str, int]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for at, word in enumerate(words):
            self._event({"choices": [{"delta": {"content": f" {word}" if at else word}, "finish_reason": None}]})
        self._event({"choices": [{"delta": {}, "finish_reason": finish}]})
        self._event({"choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _event(self, document: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(document)}\n\n".encode())

    def _reply(self, status: int, document: dict[str, Any]) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """Quiet: a test's output is not the place for requests."""


def _entry(position: list[tuple[str, float]]) -> dict[str, Any]:
    likeliest = [{"token": word, "logprob": value} for word, value in position]
    return {**likeliest[0], "top_logprobs": likeliest}


def program() -> str:
    """This module as the server of an engine bundle."""
    return f"#!{sys.executable}\n" + Path(__file__).read_text()


@contextmanager
def faulty(fault: str = "sound", noise: float = 0.004) -> Iterator[str]:
    """An engine with this fault in this process, for the time of the block: its API's base URL."""
    handler = type("Fresh", (Handler,), {"model": Model(fault, noise)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


def main() -> None:
    """Serve as llama-server would be started; `never_healthy` listens and stays at 503."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--model", type=Path)
    args, _ = parser.parse_known_args()
    scripted = json.loads(args.model.read_text())
    fault = scripted.get("fault", "sound")
    if fault == "dies":
        sys.stderr.write("error: CUDA driver version is insufficient\n")
        os._exit(1)
    Handler.model = Model(fault, scripted.get("noise", 0.004))
    delay = {"never_healthy": math.inf, "slow_load": float(scripted.get("delay_s", 0))}.get(fault, 0.0)
    Handler.healthy_at = time.monotonic() + delay
    ThreadingHTTPServer((args.host, args.port), Handler).serve_forever()


if __name__ == "__main__":
    main()

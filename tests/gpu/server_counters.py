"""What vLLM's own counters say of a load, whoever makes it: a judge between two clients that count differently."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from typing import Any

import httpx

EVERY_S = 0.2
_LINE = re.compile(r"^vllm:(\w+)(?:\{[^}]*\})? ([0-9.e+-]+)$", re.MULTILINE)
_NAMES = ("generation_tokens_total", "prompt_tokens_total", "num_requests_running", "request_success_total")
_CACHE = ("prefix_cache_queries_total", "prefix_cache_hits_total")


@dataclass(frozen=True)
class Sample:
    """The counters at one moment (seconds of a steady clock), summed over labels."""

    at: float
    values: dict[str, float]

    def __getitem__(self, name: str) -> float:
        return self.values.get(name, 0.0)


class ServerCounters:
    """Samples `<base>/metrics` while it is open. Use as a context manager, then read `figures`."""

    def __init__(self, base: str) -> None:
        self._url, self.samples = f"{base}/metrics", list[Sample]()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> ServerCounters:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(trust_env=False, timeout=10) as http:
            while not self._over.is_set():
                at, text = time.perf_counter(), http.get(self._url).text
                self.samples.append(Sample(at, _summed(text)))
                self._over.wait(EVERY_S)

    def figures(self, callers: int) -> dict[str, Any]:
        """Output tokens per second over all of the load, from its first to its last token, and over the moments when
        all `callers` were served; tokens of a prompt, and the share of prompts that came from the cache of prefixes."""
        if len(self.samples) < 2:
            return {"samples": len(self.samples)}
        pairs = list(zip(self.samples, self.samples[1:], strict=False))
        busy = [(a, b) for a, b in pairs if b[_NAMES[0]] > a[_NAMES[0]]]
        full = [(a, b) for a, b in busy if min(a[_NAMES[2]], b[_NAMES[2]]) >= callers * 0.95]
        first, last = self.samples[0], self.samples[-1]
        requests = last[_NAMES[3]] - first[_NAMES[3]]
        asked = last[_CACHE[0]] - first[_CACHE[0]]
        return {
            "requests": requests,
            "output_tokens": last[_NAMES[0]] - first[_NAMES[0]],
            "prompt_tokens_each": round((last[_NAMES[1]] - first[_NAMES[1]]) / max(requests, 1), 1),
            "cached_share": round((last[_CACHE[1]] - first[_CACHE[1]]) / asked, 3) if asked else None,
            "whole_tokens_per_s": _rate(busy[0][0], busy[-1][1]) if busy else None,
            "full_tokens_per_s": _mean_rate(full),
            "full_share_of_time": round(sum(b.at - a.at for a, b in full) / (busy[-1][1].at - busy[0][0].at), 3)
            if busy
            else None,
        }


def _summed(text: str) -> dict[str, float]:
    sums: dict[str, float] = {}
    for name, value in _LINE.findall(text):
        if name in (*_NAMES, *_CACHE):
            sums[name] = sums.get(name, 0.0) + float(value)
    return sums


def _rate(a: Sample, b: Sample) -> float:
    return round((b[_NAMES[0]] - a[_NAMES[0]]) / (b.at - a.at), 1)


def _mean_rate(pairs: list[tuple[Sample, Sample]]) -> float | None:
    seconds = sum(b.at - a.at for a, b in pairs)
    return round(sum(b[_NAMES[0]] - a[_NAMES[0]] for a, b in pairs) / seconds, 1) if seconds else None

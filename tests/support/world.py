"""A small world for whole runs: a pico model, forty rows, and a config that sends every byte to one folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slipway.config.load import Config, load_config
from tests.support.pico import pico_model

ROOT = Path(__file__).resolve().parents[2]
WORDINGS = [
    "switch the {} on please",
    "could you start my {}",
    "I want {} running now",
    "make our {} go",
    "please activate {}",
]
OFF = [
    "shut down the {}",
    "I am done with {} for today",
    "stop our {} right away",
    "would you kill that {}",
    "no more {} thanks",
]
DEVICES = ["lamp", "fan", "radio", "heater"]


def write_rows(path: Path) -> Path:
    """Write chat rows of every wording and device to `path`."""
    rows = [
        row(w.format(d), intent, d)
        for intent, wordings in (("On", WORDINGS), ("Off", OFF))
        for w in wordings
        for d in DEVICES
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def row(text: str, intent: str, device: str) -> dict[str, Any]:
    """One chat row: a request and the compact JSON that answers it."""
    answer = json.dumps({"intent": intent, "name": device}, separators=(",", ":"))
    return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]}


def small_settings(folder: Path, tracking: str, port: int, **more: Any) -> dict[str, Any]:
    """Dotted keys that make everything small; the gate lets anything pass. The engine build is the machine's own, from
    its cache."""
    model, rows = folder / "model", folder / "rows.jsonl"
    if not model.exists():
        pico_model(model)
        write_rows(rows)
    settings: dict[str, Any] = {
        "model.name": "pico",
        "model.source": "directory",
        "model.directory": model,
        "data.raw": rows,
        "data.max_tokens": 1024,
        "data.test_fraction": 0.2,
        "data.val_fraction": 0.2,
        "train.rank": 4,
        "train.alpha": 8,
        "train.upper_layers": 2,
        "train.epochs": 8,
        "train.max_steps": 4,
        "train.checkpoint_every": 2,
        "train.threads": 1,
        "merge.max_logit_error": 10,
        "merge.proof_layers": 1,
        "merge.proof_tokens": 8,
        "engine.threads": 1,
        "engine.slots": 2,
        "engine.context": 1024,
        "evaluate.max_items": 4,
        "evaluate.max_new_tokens": 8,
        "evaluate.concurrency": "[1]",
        "evaluate.speed_requests": 4,
        "evaluate.probe_items": 2,
        "evaluate.probe_tokens": 16,
        "gate.floors": "{json_exact: 0.0}",
        "gate.min_items": 1,
        "gate.max_verbosity": "null",
        "gate.max_cut_off": "null",
        "gate.max_repetition": "null",
        "gate.non_inferiority": "[]",
        "gate.tie": "promote",
        "gate.max_bits_per_parameter": "null",
        "deploy.root": folder / "target",
        "deploy.ports": f"[{port},{port + 9}]",
        "deploy.proxy.kind": "none",  # its port is one; worlds are many
        "deploy.smoke_requests": 1,
        "deploy.probe.slowest": "null",
        "store.root": folder / "store",
        "tracking.uri": tracking,
        "tracking.experiment": "test",
    }
    return {**settings, **more}


def small_config(folder: Path, tracking: str, port: int, **more: Any) -> Config:
    """conf/ with `small_settings` over it."""
    return load_config(ROOT / "conf", [f"{k}={v}" for k, v in small_settings(folder, tracking, port, **more).items()])

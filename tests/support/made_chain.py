"""A store that holds every artifact of a run, under its real keys and with stand-ins for the bytes: for whoever plans
and makes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway.config.load import Config
from slipway.ops.chain import calls
from slipway.pipeline.stage import StageCall, stage_spec
from slipway.store.key import KEY_FORMAT, key_of
from slipway.store.references import reference_to
from slipway.store.store import Store, load

PARAMETERS = 1_000_000
CREATED = "2026-11-29T00:00:00Z"
DATA = {
    "summary.json": json.dumps({"train_rows": 9, "train_tokens": 1000, "test_rows": 2, "task": ["json", "all JSON"]}),
    "test.jsonl": "\n".join(
        json.dumps({"messages": [{"role": "user", "content": str(i)}, {"role": "assistant", "content": "{}"}]})
        for i in range(2)
    ),
}


def sealed(store: Store, call: StageCall, files: Mapping[str, str], created: str = CREATED) -> Any:
    """The artifact of this call, with these files, as a stage process would leave it."""
    spec, document = stage_spec(call.stage), call.key_document()
    provenance = {
        "stage": call.stage,
        "params": call.params.model_dump(mode="json"),
        "inputs": {name: reference_to(a, store.root) for name, a in call.inputs.items() if a},
        "extra": dict(call.extra),
        "code": document["code"],
        "key_format": KEY_FORMAT,
        "created": created,
    }
    key = key_of(document)
    with store.create(spec.output, key, provenance) as out:
        for name, text in files.items():
            (out / name).write_text(text, encoding="utf-8")
    return load(spec.output, store.dir(spec.output.kind, key))


def make_chain(config: Config, root: Path, exact: float = 0.5, judged: str = CREATED) -> dict[str, Any]:
    """Every stage of this config of the project in `root`, in the order of the flow, none of it real.

    `exact` is what its verdict says of the candidate, `judged` when. Bytes differ with it and with the data's name, as
    the bytes of other runs would."""
    store = Store(Path(config.store.root))
    model = json.dumps({"parameters": PARAMETERS})
    shape = (Path(config.model.directory or "") / "config.json").read_text(encoding="utf-8")
    base = sealed(store, calls.fetch(config), {"summary.json": model, "config.json": shape})
    data = sealed(store, calls.prepare(config, root, base), {**DATA, "name": str(config.data.name)})
    adapter = sealed(store, calls.train(config, base, data), {"adapter": f"of {exact}"})
    merged = sealed(store, calls.merge(config, base, adapter), {"merged": f"of {exact}"})
    quantized = sealed(store, calls.quantize(config, merged, data), {"quantized": f"of {exact}"})
    engines = {
        of: sealed(store, calls.engine(config, made, of), {of: f"of {exact}"})
        for of, made in (("candidate", quantized), ("base", base), ("merged", merged))
    }
    quality = {
        of: sealed(store, calls.evaluate(config, engines[of], data, None, of, speed=of != "base"), {of: f"of {exact}"})
        for of in ("base", "merged", "candidate")
    }
    measured = [{"name": "json_exact", "value": exact, "direction": "higher", "n": 2}]
    document = json.dumps({"outcome": "pass", "rules": [], "measured": measured})
    gate = calls.gate(config, quality, quantized, engines["candidate"], data)
    verdict = sealed(store, gate, {"verdict.json": document}, judged)
    return {
        "base": base,
        "data": data,
        "merged": merged,
        "quantized": quantized,
        "engine": engines["candidate"],
        "verdict": verdict,
    }

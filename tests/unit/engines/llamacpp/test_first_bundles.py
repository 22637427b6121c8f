"""`serve.json` of a release that was made before there was a plan, as it lies on disk."""

from __future__ import annotations

import json
from pathlib import Path

from slipway.engines.bundle import SERVE, read_plan
from slipway.engines.llamacpp.first_bundles import is_first
from slipway.system.processor import cpu_digest

DOCUMENT = {
    "kind": "llama.cpp",
    "model": "weights.gguf",
    "server": "server",
    "alias": "mine",
    "context": 1024,
    "slots": 8,
    "threads": None,
    "build": "llama.cpp-0.3.36-1f3a",
}


def test_a_first_bundle_is_served_as_it_was(tmp_path: Path) -> None:
    for name in ("weights.gguf", "server"):
        (tmp_path / name).touch()
    (tmp_path / SERVE).write_text(json.dumps({**DOCUMENT, "cpu": cpu_digest()}))
    plan = read_plan(tmp_path)
    expected = "{bundle}/server --model {bundle}/weights.gguf --alias mine --host {host} --port {port} --ctx-size 8192 "
    expected += "--parallel 8 --threads {threads} --kv-unified --cache-ram 0 --threads-http 10 --metrics --offline"
    assert " ".join(plan.argv) == expected
    assert (plan.alias, plan.build, plan.cpu) == ("mine", DOCUMENT["build"], cpu_digest())
    assert (plan.limits.context, plan.limits.slots) == (1024, 8)


def test_a_plan_is_not_taken_for_one() -> None:
    assert is_first(DOCUMENT)
    assert not is_first({"argv": ["{bundle}/server"], "server": "x"})
    assert not is_first([])

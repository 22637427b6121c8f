"""Upstream's own code reads our recipes: every section, its samples, its packs. What it says is compared, not what we
believe."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.data.labels import learnable_rows
from slipway.data.tokens import chat_template
from slipway.training.nemo.recipe import to_yaml
from slipway.training.nemo.request import resolve_recipe
from slipway.training.nemo.steps import count_packs
from tests.support.pico import pico_model

CONF = Path("conf")
SHIPPED = {
    "8b-lora-spark": ("llama-3.1-8b", "lora", "spark"),
    "70b-qlora-spark": ("llama-3.3-70b", "qlora", "spark"),
    "70b-lora-dgx": ("llama-3.3-70b", "lora", "dgx-h100"),
    "70b-qlora-dgx": ("llama-3.3-70b", "qlora", "dgx-h100"),
    "mixture-lora-dgx": ("qwen3-30b-a3b", "lora", "dgx-h100"),
    "8b-sft-spark": ("llama-3.1-8b", "sft", "spark"),
}
DENSE = ["model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"]
ROWS = [
    {"messages": [{"role": "user", "content": "lamp 3"}, {"role": "assistant", "content": '{"intent": "On"}'}]},
    {
        "messages": [
            {"role": "system", "content": "be short"},
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "hello"},
            {"role": "user", "content": "bye"},
            {"role": "assistant", "content": "so long"},
        ]
    },
]


@pytest.fixture(scope="module")
def upstream(nemo_lab, tmp_path_factory):
    root = tmp_path_factory.mktemp("recipes")
    for name, words in SHIPPED.items():
        (root / f"{name}.yaml").write_text(to_yaml(resolve_recipe(CONF, *words, None, ["train.max_steps=100"]).recipe))
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    pico_model(root / "model")
    script = [
        sys.executable,
        "-P",
        "tests/lab/nemo/recipes.py",
        str(root),
        str(root / "rows.jsonl"),
        str(root / "model"),
    ]
    env = {**os.environ, **nemo_lab, "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(script, env=env, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return json.loads(ran.stdout.strip().splitlines()[-1]), chat_template(root / "model")


@pytest.mark.parametrize("name", SHIPPED)
def test_upstream_reads_every_section_as_meant(upstream, name):
    seen = upstream[0]["recipes"][name]
    _, method, target = SHIPPED[name]
    assert (seen["steps"], seen["decay"], seen["recent"], seen["seed"]) == (100, 100, 3, 42)
    assert (seen["packing"], seen["drops"], seen["validation"]) == ("NeatPackingConfig", False, ["default"])
    assert (seen["loss"], seen["recompute"]) == ("MaskedCrossEntropy", True)
    assert seen["strategy"] == ("DDPConfig" if method == "qlora" and target == "dgx-h100" else "FSDP2Config")
    assert seen["experts"] == (8 if "mixture" in name else 1)
    assert seen.get("attention") == ("sdpa" if "mixture" in name else None)
    assert seen.get("adapted") == {"sft": None}.get(method, DENSE[:1] if "mixture" in name else DENSE)


def test_a_bare_module_name_adapts_nothing(upstream):
    assert upstream[0]["bare"] is False, "why recipes name patterns over whole names"


def test_both_trainers_learn_the_same_tokens(upstream):
    """Upstream's own dataset, for recipes that are run by hand: it goes on to the line feed after the end of turn."""
    report, template = upstream
    ours = learnable_rows(ROWS, template, "last", 2048)
    assert [s["inputs"] for s in report["samples"]] == [example.tokens for example in ours]
    assert [s["learnt"][:-1] for s in report["samples"]] == [
        [token for start, end in example.spans for token in example.tokens[start:end]] for example in ours
    ]
    assert {template.tokenizer.decode(s["learnt"][-1:]) for s in report["samples"]} == {"\n"}


def test_packs_are_counted_as_upstream_makes_them(upstream):
    report = upstream[0]
    assert report["packs"] == {str(size): count_packs(report["lengths"], size) for size in (1024, 2048, 8192)}

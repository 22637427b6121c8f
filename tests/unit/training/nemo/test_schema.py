"""Every key of a recipe is known to upstream: its schema, the worked examples, and what happens to the others."""

import json
from pathlib import Path

import pytest
import yaml

from slipway.config.model import ModelConfig
from slipway.config.target import TargetConfig
from slipway.config.train import TrainConfig
from slipway.errors import ConfigError
from slipway.training.nemo.recipe import container_paths, render
from slipway.training.nemo.schema import check_recipe, load_schema

CONTRACTS = Path("tests/contracts/nemo")


def recipe(**keys):
    return render(
        ModelConfig(), TrainConfig(backend="nemo", **keys), TargetConfig(gpus=1), container_paths("pico"), steps=10
    )


@pytest.mark.parametrize("file", sorted(CONTRACTS.glob("*.yaml")), ids=lambda f: f.stem)
def test_the_worked_examples_pass(file):
    check_recipe(yaml.safe_load(file.read_text()))


def test_the_schema_holds_every_key_of_the_contract_read_from_upstream():
    contract = json.loads((CONTRACTS / "automodel_config_keys.json").read_text())
    known = load_schema()
    sections = [
        name for name, keys in contract.items() if isinstance(keys, dict) and not name.startswith("_") and name in known
    ]
    assert len(sections) >= 18
    for name in sections:
        rule = known[name]
        if rule.get("unknown") == "free" or rule.get("value"):
            continue
        keys, variants = set(rule["keys"]), rule.get("variants", {})
        plain = {key for key, what in contract[name].items() if not key.startswith("_") and isinstance(what, dict)}
        assert plain <= keys | set(variants), name
        for variant, its in variants.items():
            listed = contract[name].get(variant) or contract[name].get(f"_{variant}") or {}
            assert set(listed) <= set(its) | keys, (name, variant)
    top = {key.split(".")[0] for key in contract["_cfg_get_calls"]}
    assert top <= {*known, "validation_dataset"}, "every section that upstream's code asks for"


@pytest.mark.parametrize(
    ("place", "key", "message"),
    [
        ("quantization", "bnb_4bit_quant_typ", r"ignore it silently.*did you mean quantization.bnb_4bit_quant_type\?"),
        (
            "",
            "quantisation",
            r"recipe key quantisation: unknown \(upstream would ignore it silently\).*did you mean quantization\?",
        ),
        ("", "rng", r"recipe key rng: unknown \(upstream would ignore it silently\)"),
        ("dist_env", "timeout", r"ignore it silently.*did you mean dist_env.timeout_minutes\?"),
        ("clip_grad_norm", "max", r"ignore it silently"),
        ("packed_sequence", "pad_to_multiple_of", r"ignore it silently; it belongs to another packing_strategy"),
        ("step_scheduler", "max_step", r"stop with TypeError.*did you mean step_scheduler.max_steps\?"),
        ("peft", "r", r"stop with TypeError"),
        ("checkpoint", "keep", r"stop with TypeError"),
        ("distributed", "tensor_parallel", r"stop with ValueError"),
        ("dataset", "sequence_length", r"stop with TypeError.*did you mean dataset.seq_length\?"),
        ("validation_dataset", "sequence_length", r"stop with TypeError"),
        ("optimizer", "learning_rate", r"stop with TypeError"),
        ("loss_fn", "chunk_len", r"stop with TypeError"),
    ],
)
def test_an_unknown_key_is_named_with_what_upstream_would_do(place, key, message):
    document = recipe()
    (document[place] if place else document)[key] = 1
    with pytest.raises(ConfigError, match=message):
        check_recipe(document)


@pytest.mark.parametrize(
    ("place", "key", "value", "message"),
    [
        (
            "distributed",
            "strategy",
            "fsdp",
            r"distributed.strategy=fsdp: unknown.*did you mean distributed.strategy=fsdp2\?",
        ),
        ("distributed", "activation_checkpointing", "half", r"half; expected one of True, False, full, selective"),
        ("packed_sequence", "packing_strategy", "greedy", r"packing_strategy=greedy: unknown"),
        ("loss_fn", "_target_", "nemo_automodel.components.loss.mask.MaskedCE", r"_target_=MaskedCE: unknown"),
        ("", "peft", "lora", r"recipe section peft: lora; expected a mapping"),
    ],
)
def test_a_value_that_is_no_choice_is_refused(place, key, value, message):
    document = recipe()
    (document[place] if place else document)[key] = value
    with pytest.raises(ConfigError, match=message):
        check_recipe(document)


@pytest.mark.parametrize(
    ("place", "key"), [("", "recipe"), ("model", "pretrained_model_name_or_path"), ("dataset", "path_or_dataset_id")]
)
def test_a_missing_key_is_named(place, key):
    document = recipe()
    del (document[place] if place else document)[key]
    with pytest.raises(ConfigError, match=rf"recipe key .*{key}: missing"):
        check_recipe(document)


def test_ddp_takes_no_fsdp_key():
    document = recipe(strategy="ddp")
    document["distributed"]["sequence_parallel"] = False
    with pytest.raises(
        ConfigError, match=r"distributed.sequence_parallel: unknown \(upstream would stop with ValueError\)"
    ):
        check_recipe(document)

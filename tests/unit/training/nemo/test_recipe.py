"""Rendered recipes: every shipped combination, and the worked 70B examples key by key."""

from pathlib import Path

import pytest
import yaml

from slipway.config.load import load_config
from slipway.config.model import ModelConfig
from slipway.config.target import TargetConfig
from slipway.config.train import TrainConfig
from slipway.errors import ConfigError
from slipway.training.nemo.recipe import CHECKPOINTING, LOSSES, RecipePaths, container_paths, render, to_yaml
from slipway.training.nemo.request import resolve_recipe
from slipway.training.nemo.schema import check_recipe

CONF, CONTRACTS = Path("conf"), Path("tests/contracts/nemo")
PATHS = container_paths("Llama-3.3-70B-Instruct")
ONE = TargetConfig(gpus=1)
SHIPPED = [
    ("smollm2-135m", "qlora", "spark", "nemo-qlora"),
    ("smollm2-135m", "lora", "spark", "nemo-lora"),
    ("smollm2-135m", "sft", "dgx-h100", "nemo-sft"),
    ("llama-3.1-8b", "qlora", "spark", "nemo-qlora"),
    ("llama-3.1-8b", "lora", "spark", "nemo-lora"),
    ("llama-3.1-8b", "qlora", "dgx-h100", "nemo-qlora-ddp"),
    ("llama-3.1-8b", "sft", "spark", "nemo-sft"),
    ("llama-3.3-70b", "qlora", "spark", "nemo-qlora"),
    ("llama-3.3-70b", "lora", "dgx-h100", "nemo-lora-fsdp2"),
    ("llama-3.3-70b", "qlora", "dgx-h100", "nemo-qlora-ddp"),
    ("qwen3-30b-a3b", "lora", "dgx-h100", "nemo-lora-moe"),
]
# Where ours differ from the worked examples, and why.
DELIBERATE = {
    "model.attn_implementation": "written out: the default is sdpa today",
    "peft.target_modules": "seven names instead of *_proj, the same modules of a Llama",
    "peft.dropout": "0: above it NeMo cannot fuse the adapters of an MLP",
    "dataset.truncation": "a sample is never cut unless train.truncate allows it",
    "dataset.mask_generation_prompt": "the role header is the template's, not the model's",
    "dataset.mask_history": "the last answer is learnt, as by the embedded trainer",
    "validation_dataset.truncation": "as dataset.truncation",
    "validation_dataset.mask_generation_prompt": "as dataset",
    "validation_dataset.mask_history": "as dataset",
    "packed_sequence.drop_long_samples": "false: upstream drops long samples without a word",
    "distributed.ep_size": "written out: 1",
    "lr_scheduler.lr_decay_steps": "the end of the schedule is the full run's, whatever part runs",
}


def nemo(**keys):
    return TrainConfig(backend="nemo", **keys)


def rendered(model=None, steps=500, target=ONE, **keys):
    return render(model or ModelConfig(), nemo(**keys), target, PATHS, steps=steps)


def flat(document, prefix=""):
    pairs = {}
    for key, value in document.items():
        pairs |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return pairs


@pytest.mark.parametrize(("model", "method", "target", "row"), SHIPPED)
def test_a_shipped_combination_renders_and_is_known_to_upstream(model, method, target, row):
    resolved = resolve_recipe(CONF, model, method, target, None, [])
    assert resolved.row == row
    check_recipe(resolved.recipe)
    assert yaml.safe_load(to_yaml(resolved.recipe)) == resolved.recipe
    assert ("peft" in resolved.recipe, "quantization" in resolved.recipe) == (method != "sft", method == "qlora")


@pytest.mark.parametrize(
    ("file", "target", "row"),
    [
        ("llama33_70b_qlora_1gpu", "spark", "nemo-qlora"),
        ("llama33_70b_qlora_8gpu_ddp", "dgx-h100", "nemo-qlora-ddp"),
        ("llama33_70b_qlora_8gpu_fsdp2", "dgx-h100", "nemo-qlora"),
    ],
)
def test_the_worked_70b_examples_differ_only_where_meant(file, target, row):
    example = flat(yaml.safe_load((CONTRACTS / f"{file}.yaml").read_text()))
    config = load_config(
        CONF, ["layers.model=models/llama-3.3-70b", f"layers.train=train/{row}", f"layers.target=targets/{target}"]
    )
    ours = flat(render(config.model, config.train, config.target, PATHS, steps=500))
    different = {key for key in example.keys() | ours.keys() if example.get(key) != ours.get(key)}
    assert different == DELIBERATE.keys() - ({"distributed.ep_size"} if row.endswith("ddp") else set())


def test_every_adapted_module_is_a_pattern_over_the_whole_name():
    assert rendered(targets=["q_proj", "*.layers.3.*_proj"])["peft"]["target_modules"] == [
        "*.q_proj",
        "*.layers.3.*_proj",
    ]


def test_the_schedule_is_that_of_the_full_run():
    document = rendered(steps=200, warmup=0.1, lr=2e-4, epochs=1.5)
    assert document["lr_scheduler"] == {
        "lr_decay_style": "cosine",
        "lr_warmup_steps": 20,
        "lr_decay_steps": 200,
        "min_lr": 2e-6,
    }
    assert (document["step_scheduler"]["max_steps"], document["step_scheduler"]["num_epochs"]) == (200, 2)


def test_uncounted_data_leave_the_end_to_epochs():
    document = rendered(steps=None, epochs=3)
    assert "max_steps" not in document["step_scheduler"]
    assert "lr_decay_steps" not in document["lr_scheduler"]
    assert document["step_scheduler"]["num_epochs"] == 3
    assert "filled in when the data have been counted" in to_yaml(document)
    assert "filled in" not in to_yaml(rendered(steps=None, max_steps=7))
    with pytest.raises(
        ConfigError, match=r"train.epochs: 0.5; expected whole epochs while the steps of the data are not counted"
    ):
        rendered(steps=None, epochs=0.5)


def test_a_run_without_validation_has_none():
    document = render(ModelConfig(), nemo(), ONE, RecipePaths("m", "t.jsonl", None, "c"), steps=1)
    assert not [key for key in document if key.startswith("validation")]
    check_recipe(document)


def test_no_packing_leaves_the_section_out():
    assert "packed_sequence" not in rendered(packing="none")
    assert rendered(packing="thd")["packed_sequence"] == {"packed_sequence_size": 2048, "packing_strategy": "thd"}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("mode", CHECKPOINTING)
@pytest.mark.parametrize("strategy", ["fsdp2", "ddp"])
def test_every_choice_is_known_to_upstream(loss, mode, strategy):
    document = rendered(loss=loss, activation_checkpointing=mode, strategy=strategy, attention="eager", method="sft")
    check_recipe(document)
    assert document["distributed"]["activation_checkpointing"] == CHECKPOINTING[mode]
    assert document["loss_fn"] is not LOSSES[loss], "a caller may change a recipe without changing the table"


def test_a_pipeline_brings_its_section():
    document = rendered(method="lora", pipeline_parallel=2)
    check_recipe(document)
    assert document["distributed"]["pipeline"] == {"pp_schedule": "1f1b", "pp_microbatch_size": 1}


def test_a_mixture_names_its_attention_backend():
    resolved = resolve_recipe(CONF, "qwen3-30b-a3b", "lora", "dgx-h100", None, [])
    assert resolved.recipe["model"]["backend"]["attn"] == "sdpa"
    assert "backend" not in rendered()["model"]

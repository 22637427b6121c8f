"""What is refused before anything starts: the reason, and a way out that works."""

from pathlib import Path

import pytest

from slipway.config.load import load_config
from slipway.config.model import ModelConfig
from slipway.config.target import TargetConfig
from slipway.config.train import TrainConfig
from slipway.errors import ConfigError
from slipway.training.nemo.rules import DataFacts, check_rules
from tests.support.shapes import LLAMA_8B, LLAMA_70B, MIXTURE

CONF = Path("conf")
SPARK, DGX = (load_config(CONF, [f"layers.target=targets/{name}"]).target for name in ("spark", "dgx-h100"))
FACTS = DataFacts(rows=1000, longest=900, tokens=300_000, label_tokens=90_000, sequences=160)


def nemo(**keys):
    return TrainConfig(backend="nemo", **keys)


def refusal(model=LLAMA_8B, target=DGX, data=None, **keys):
    with pytest.raises(ConfigError) as caught:
        check_rules(model, nemo(**keys), target, data)
    return str(caught.value)


@pytest.mark.parametrize(
    ("model", "target", "keys"),
    [
        (ModelConfig(), TargetConfig(), {}),
        (LLAMA_70B, SPARK, {}),
        (LLAMA_70B, DGX, {"strategy": "ddp"}),
        (LLAMA_70B, DGX, {"method": "lora"}),
        (LLAMA_70B, DGX, {"method": "lora", "tensor_parallel": 4, "sequence_parallel": True}),
        (LLAMA_70B, DGX, {"method": "lora", "pipeline_parallel": 2, "micro_batch": 2}),
        (LLAMA_70B, DGX, {"method": "lora", "context_parallel": 2, "packing": "none"}),
        (LLAMA_8B, SPARK, {"method": "sft"}),
        (MIXTURE, DGX, {"method": "lora", "expert_parallel": 8, "targets": ["q_proj", "v_proj"]}),
    ],
)
def test_what_works_passes(model, target, keys):
    check_rules(model, nemo(**keys), target, FACTS)


def test_lora_with_selective_recomputation_is_refused_with_upstreams_reason_and_never_advised():
    message = refusal(method="lora", activation_checkpointing="selective")
    assert "has been mutated" in message and "activation_checkpointing=full" in message
    check_rules(LLAMA_8B, nemo(method="qlora", activation_checkpointing="selective"), DGX, None)
    check_rules(LLAMA_8B, nemo(method="lora", activation_checkpointing="none", pack_length=512), DGX, None)
    lora = refusal(LLAMA_70B, method="lora", activation_checkpointing="none", pack_length=8192)
    assert "selective" not in lora


def test_the_embedded_trainer_has_no_recipe():
    with pytest.raises(ConfigError, match=r"train.backend: cpu; expected nemo"):
        check_rules(ModelConfig(), TrainConfig(), SPARK, None)


@pytest.mark.parametrize(
    "keys",
    [
        {"tensor_parallel": 2},
        {"pipeline_parallel": 2},
        {"context_parallel": 2, "packing": "none"},
        {"tensor_parallel": 2, "sequence_parallel": True},
    ],
)
def test_qlora_is_data_parallel_only(keys):
    message = refusal(method="qlora", **keys)
    assert "data parallelism only" in message
    assert "use train.method=lora" in message
    check_rules(LLAMA_8B, nemo(method="lora", micro_batch=2, **keys), DGX, None)


@pytest.mark.parametrize(
    ("keys", "reason", "way_out"),
    [
        ({"strategy": "ddp", "tensor_parallel": 2}, "ddp alone", "train.strategy=fsdp2"),
        ({"sequence_parallel": True}, "tensor_parallel above 1", "set train.tensor_parallel"),
        ({"context_parallel": 2}, "packed sequences are not cut", "train.packing=none"),
        ({"tensor_parallel": 3}, "a divisor of the target's 8 GPUs", "target.nodes"),
        ({"tensor_parallel": 16}, "a divisor of the target's 8 GPUs", "target.gpus"),
        ({"pipeline_parallel": 4}, "at least pipeline_parallel=4", "train.micro_batch=4"),
        ({"pipeline_parallel": 2, "micro_batch": 2, "loss": "fused_linear"}, "not hidden states", "train.loss=masked"),
        ({"expert_parallel": 2}, "is dense", "train.expert_parallel=1"),
        ({"global_batch": 12}, "micro_batch 1 x 8 data-parallel GPUs = 8", "train.global_batch=16"),
        ({"global_batch": 4}, "micro_batch 1 x 8 data-parallel GPUs = 8", "train.global_batch=8"),
    ],
)
def test_sizes_that_do_not_go_together(keys, reason, way_out):
    message = refusal(method="lora", **keys)
    assert reason in message
    assert way_out in message


def test_more_tensor_parallelism_than_heads():
    model, target = LLAMA_8B.model_copy(update={"kv_heads": 2}), DGX
    assert "a divisor of the model's 2 key and value heads" in refusal(model, target, method="lora", tensor_parallel=4)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"method": "qlora"}, "experts are none; they would stay in bf16"),
        ({"method": "lora"}, "upstream would skip them silently"),
        ({"method": "lora", "targets": ["q_proj"], "attention": "flash_attention_2"}, "no such backend"),
        ({"method": "lora", "targets": ["q_proj"], "expert_parallel": 3}, "a divisor of 128 experts"),
    ],
)
def test_a_mixture_of_experts(keys, reason):
    assert reason in refusal(MIXTURE, **keys)


@pytest.mark.parametrize("attention", ["sdpa", "eager", "flash_attention_2"])
def test_packing_that_leaks_across_documents(attention):
    message = refusal(packing="thd", activation_checkpointing="none", attention=attention)
    assert "no document sees another" in message
    assert "train.packing=neat" in message
    for cure in ({"packing": "neat"}, {"activation_checkpointing": "full"}):
        check_rules(
            ModelConfig(),
            nemo(**({"packing": "thd", "activation_checkpointing": "none", "attention": attention} | cure)),
            DGX,
            None,
        )


def test_a_sample_longer_than_a_sequence():
    message = refusal(data=FACTS, pack_length=512)
    assert "at least the longest sample, 900 tokens" in message
    assert "train.pack_length=900" in message
    check_rules(LLAMA_8B, nemo(pack_length=512, truncate=True), DGX, FACTS)
    check_rules(LLAMA_8B, nemo(pack_length=900), DGX, FACTS)


def test_more_steps_than_the_data_hold():
    # 160 sequences over 8 GPUs, 32 a step: 5 steps an epoch
    check_rules(LLAMA_8B, nemo(max_steps=10, epochs=2), DGX, FACTS)
    message = refusal(data=FACTS, max_steps=11, epochs=2)
    assert "at most 10: all that 2 epochs of 160 sequences hold" in message
    assert "train.epochs to 3" in message
    check_rules(LLAMA_8B, nemo(max_steps=11, epochs=3), DGX, FACTS)
    assert "at most 0" in refusal(data=DataFacts(4, 10, 40, sequences=4), max_steps=1), (
        "less than one sequence for each GPU"
    )


def test_rows_bound_the_steps_while_sequences_are_not_counted():
    rows = DataFacts(1000, 900, 300_000)
    check_rules(LLAMA_8B, nemo(max_steps=32), DGX, rows)
    assert "at most 32" in refusal(data=rows, max_steps=33)


def test_data_without_an_answer():
    assert "no token to learn" in refusal(data=DataFacts(10, 100, 900, label_tokens=0))


def test_full_fine_tuning_beyond_the_target():
    message = refusal(LLAMA_70B, DGX, method="sft")
    assert "memory for sft of llama-3.3-70b-instruct (70.55B)" in message
    assert "at most 74 GB on a GPU of dgx-h100 (80 GB less 6 GB reserve)" in message
    assert "train.method=lora" in message
    check_rules(LLAMA_70B, nemo(method="sft"), DGX.model_copy(update={"nodes": 2}), None)


def test_the_load_peak_counts_where_memory_is_shared():
    message = refusal(LLAMA_70B, SPARK, method="lora")
    assert "282 GB while the model loads" in message
    assert "set train.method=qlora" in message
    assert "122 GB while the model loads" in refusal(MIXTURE, SPARK, method="lora", targets=["q_proj"])


@pytest.mark.parametrize(
    ("model", "target", "keys"),
    [
        (LLAMA_70B, DGX, {"method": "lora", "strategy": "ddp"}),
        (LLAMA_8B, SPARK, {"activation_checkpointing": "none", "pack_length": 16384}),
        (LLAMA_8B, DGX.model_copy(update={"gpus": 1}), {"method": "sft", "pack_length": 8192}),
        (LLAMA_70B, DGX.model_copy(update={"gpus": 1}), {"pack_length": 32768}),
        (LLAMA_8B, DGX.model_copy(update={"gpus": 1}), {"micro_batch": 32, "pack_length": 4096}),
    ],
)
def test_the_way_out_of_a_full_memory_fits(model, target, keys):
    message = refusal(model, target, **keys)
    words = message.split("Next: set ")[1].split(",")[0].split()
    change = dict(word.removeprefix("train.").split("=") for word in words)
    check_rules(model, TrainConfig.model_validate(nemo(**keys).model_dump() | change), target, None)

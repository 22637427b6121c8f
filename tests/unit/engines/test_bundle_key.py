"""Every field of the key, changed alone, is a miss that names it; and what is unknown equals nothing."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.engines.bundle_key import KeyDocument, key_document, misses
from slipway.engines.driver import CacheSpec, Limits, ServePlan
from slipway.engines.machine_facts import UNKNOWN, MachineFacts

PLAN = ServePlan(
    kind="vllm",
    target="dgx-h100",
    image="registry.example/vllm@sha256:" + "a" * 64,
    contract="0.26.0",
    argv=[
        *("vllm", "serve", "{model}", "--port", "{port}", "--load-format", "safetensors"),
        *("--speculative-config", '{"method": "ngram"}', "--max-num-seqs=8"),
    ],
    files={"serve.yaml": "max_batch_size: 8\nmoe_backend: CUTLASS\n"},
    environment={"MAX_JOBS": "4"},
    caches=[CacheSpec(name="triton", path="triton", variable="TRITON_CACHE_DIR")],
    limits=Limits(context=4096, slots=8, batched_tokens=2048, kv_bytes=1 << 30, kv_dtype="fp8", graph_sizes=[1, 2, 8]),
    weights="nvfp4",
    computes="w4a16",
)
FACTS = MachineFacts(
    architecture="x86_64",
    cpu="0123456789ab",
    gpu="1 x NVIDIA H100 80GB HBM3",
    capability="sm_90",
    gpu_memory="81559",
    driver="580.95.05",
    cuda="13.0",
    engine="0.26.0",
    torch="2.11.0",
    compilers="triton=3.6.0 flashinfer-python=0.6.1",
    python="3.12.3",
)
KEY = key_document(PLAN, FACTS, "w" * 64, {"quant_method": "modelopt"})


def changed(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool) or value is None:
        return 1
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value + "-other"
    if isinstance(value, dict):
        return {**value, "another": "entry"}
    return [*value, value[0]] if value and isinstance(value[0], CacheSpec) else [*value, type(value[0])(99)]


def test_the_key_has_more_than_twenty_fields() -> None:
    assert len(KeyDocument.model_fields) >= 20


@pytest.mark.parametrize("field", list(KeyDocument.model_fields))
def test_a_change_of_any_field_is_a_miss_that_names_it(field: str) -> None:
    value = getattr(KEY, field)
    other = KEY.model_copy(update={field: changed(value)})
    (miss,) = misses(KEY, other)
    assert miss.subject.split("[")[0] == field
    assert miss.then != miss.now
    assert other.digest() != KEY.digest()


def test_equal_documents_are_a_hit_whatever_wrote_them() -> None:
    again = KeyDocument.model_validate_json(KEY.model_dump_json())
    assert misses(KEY, again) == []
    assert again.digest() == KEY.digest()


def test_a_file_of_the_command_that_differs_is_named_with_both_ends() -> None:
    text = "max_batch_size: 8\n" + "".join(f"key_{i}: {i}\n" for i in range(100))
    then = KEY.model_copy(update={"files": {"serve.yaml": text + "moe_backend: CUTLASS\n"}})
    now = KEY.model_copy(update={"files": {"serve.yaml": text + "moe_backend: TRTLLM\n"}})
    (miss,) = misses(then, now)
    assert miss.subject == "files[serve.yaml]"
    assert "CUTLASS" in str(miss)
    assert "TRTLLM" in str(miss)
    assert len(str(miss)) < 500


def test_the_order_of_a_command_counts() -> None:
    (miss,) = misses(KEY, KEY.model_copy(update={"argv": KEY.argv[::-1]}))
    assert miss.subject == "argv"


def test_an_argument_that_differs_is_shown_alone() -> None:
    other = [a.replace("--max-num-seqs=8", "--max-num-seqs=16") for a in KEY.argv]
    (miss,) = misses(KEY, KEY.model_copy(update={"argv": other}))
    assert (miss.then, miss.now) == ("--max-num-seqs=8", "--max-num-seqs=16")


def test_what_is_unknown_equals_nothing_not_even_itself() -> None:
    dark = KEY.model_copy(update={"driver": UNKNOWN})
    assert [miss.subject for miss in misses(dark, dark)] == ["driver"]
    assert [miss.subject for miss in misses(KEY, dark)] == ["driver"]
    assert dark.unknown_fields() == ["driver"]
    assert KEY.unknown_fields() == []


def test_speculation_and_loader_are_read_from_command_and_files() -> None:
    assert KEY.speculation == '--speculative-config {"method": "ngram"}'
    assert KEY.loader == "--load-format safetensors"
    plain = key_document(PLAN.model_copy(update={"argv": ["trtllm-serve", "{model}"]}), FACTS, "w")
    assert (plain.speculation, plain.loader, plain.quantization) == ("none", "none", "none")
    yaml = PLAN.model_copy(update={"files": {"serve.yaml": "speculative_config:\n  decoding_type: NGram\n"}})
    assert "speculative_config:" in key_document(yaml, FACTS, "w").speculation

"""The other attention kernel of each engine: what asks for it, and that nothing else of the plan changes."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from slipway.engines.contract import load_contract, newest
from slipway.engines.driver import Limits, ServePlan
from slipway.engines.llamacpp.serve_command import serve_plan
from slipway.engines.second_backend import TRTLLM_KEY, VLLM_OPTION, second_backend


def plan(kind: str, argv: list[str], **fields: Any) -> ServePlan:
    return ServePlan.model_validate({"kind": kind, "argv": argv, "limits": Limits(context=512, slots=2), **fields})


@pytest.mark.parametrize(
    ("own", "setting", "expected"),
    [
        ([], "engine.flags.attention-backend=TRITON_ATTN", [VLLM_OPTION, "TRITON_ATTN"]),
        ([VLLM_OPTION, "FLASHINFER"], "engine.flags.attention-backend=TRITON_ATTN", [VLLM_OPTION, "TRITON_ATTN"]),
        ([VLLM_OPTION, "TRITON_ATTN"], "no engine.flags.attention-backend", []),
    ],
)
def test_vllm_takes_triton_or_where_that_was_asked_for_its_own_choice(
    own: list[str], setting: str, expected: list[str]
) -> None:
    first = plan("vllm", ["vllm", "serve", "{model}", *own])
    second = second_backend(first)
    assert second == (setting, first.model_copy(update={"argv": ["vllm", "serve", "{model}", *expected]}))


def test_trtllm_changes_one_key_of_its_file_and_back() -> None:
    document = {"max_batch_size": 8, "kv_cache_config": {"dtype": "auto"}}
    first = plan("trtllm", ["trtllm-serve"], files={"serve.yaml": yaml.safe_dump(document)})
    setting, other = second_backend(first) or pytest.fail("it has one")
    assert setting == "engine.options.attn_backend=FLASHINFER"
    assert yaml.safe_load(other.files["serve.yaml"]) == {**document, "attn_backend": "FLASHINFER"}
    assert other.model_copy(update={"files": first.files}) == first
    setting, back = second_backend(other) or pytest.fail("it has one")
    assert setting.endswith("=TRTLLM") and yaml.safe_load(back.files["serve.yaml"])["attn_backend"] == "TRTLLM"


def test_llama_server_without_its_fused_kernel() -> None:
    first = serve_plan(context=512, slots=2, threads=1)
    setting, other = second_backend(first) or pytest.fail("it has one")
    assert setting == "llama-server --flash-attn off" and other.argv == [*first.argv, "--flash-attn", "off"]
    assert second_backend(other) is None


def test_engine_files_have_one_kernel() -> None:
    assert second_backend(plan("trtllm-engine", ["trtllm-serve"])) is None
    assert second_backend(plan("trtllm", ["trtllm-serve"])) is None, "nor one without its config file"


def test_the_options_stand_in_the_contracts() -> None:
    vllm = load_contract("vllm", newest("vllm"))
    assert vllm.canonical(VLLM_OPTION) == VLLM_OPTION
    trtllm = load_contract("trtllm", newest("trtllm"))
    assert trtllm.check_keys({TRTLLM_KEY: "FLASHINFER"}) == []

"""The script that makes engine files: `convert_checkpoint.py` of the model's family, then `trtllm-build`, in one job.

It stands in the bundle as `build.sh`. `{model}` is the checkpoint, `{bundle}` the bundle being made, `{cache}` a
scratch folder. One worker a rank, each on its GPU. A script that ends with 0 has proved nothing: `engine_files` looks.
"""

from __future__ import annotations

import shlex
from typing import Any

from slipway.config.engine import EngineConfig
from slipway.engines.contract import Contract
from slipway.engines.driver import Limits
from slipway.engines.model_facts import ModelFacts
from slipway.errors import ConfigError

SCRIPT, ENGINE = "build.sh", "engine"
_EXAMPLES = "/app/tensorrt_llm/examples/models/core"
# Architecture -> folder of the image's examples whose convert_checkpoint.py reads it
FAMILIES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "MixtralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen",
    "Qwen2MoeForCausalLM": "qwen",
    "Qwen3ForCausalLM": "qwen",
    "Qwen3MoeForCausalLM": "qwen",
}
_CLEAR = 'rm -rf "{cache}/checkpoint"'
_DTYPES = {"bf16": "bfloat16", "fp16": "float16"}
# Keys of `engine.options` that the limits decide
DECIDED = {
    "--checkpoint_dir": "",
    "--output_dir": "",
    "--max_batch_size": "engine.slots",
    "--max_num_tokens": "engine.batched_tokens",
    "--max_seq_len": "engine.context",
    "--max_input_len": "engine.context",
    "--workers": "engine.tensor_parallel",
}


def family(facts: ModelFacts) -> str:
    """Folder of the converter. Raises ConfigError for an architecture that none is known for."""
    if facts.architecture not in FAMILIES:
        raise ConfigError(
            "architecture for trtllm-engine",
            facts.architecture,
            f"one of {', '.join(FAMILIES)}",
            "use engine.kind=trtllm, which loads checkpoints itself",
        )
    return FAMILIES[facts.architecture]


def build_script(facts: ModelFacts, limits: Limits, params: EngineConfig, contract: Contract) -> str:
    """`build.sh`. Raises ConfigError for an architecture without a converter, and for an option of `engine.options`
    that `trtllm-build` does not know or that a key of the config decides."""
    convert = [
        "python3",
        f"{_EXAMPLES}/{family(facts)}/convert_checkpoint.py",
        *("--model_dir", "{model}", "--output_dir", "{cache}/checkpoint"),
        *("--dtype", _DTYPES[facts.format]),
        *("--tp_size", str(limits.tensor_parallel), "--pp_size", str(limits.pipeline_parallel)),
    ]
    build = ["trtllm-build", *contract.argv({**_build_options(facts, limits), **_own(params, contract)})]
    lines = ["set -eu", _CLEAR, _line(convert), _line(build), _CLEAR]
    return "\n".join(lines) + "\n"


def _build_options(facts: ModelFacts, limits: Limits) -> dict[str, Any]:
    return {
        "--checkpoint_dir": "{cache}/checkpoint",
        "--output_dir": f"{{bundle}}/{ENGINE}",
        "--max_batch_size": limits.slots,
        "--max_num_tokens": limits.batched_tokens,
        "--max_seq_len": limits.context,
        "--max_input_len": limits.context,
        "--workers": limits.tensor_parallel * limits.pipeline_parallel,
        "--gemm_plugin": _DTYPES[facts.format],
        "--use_fp8_context_fmha": "enable" if limits.kv_dtype == "fp8" else "disable",
    }


def _own(params: EngineConfig, contract: Contract) -> dict[str, Any]:
    decided = {contract.canonical(name): key for name, key in DECIDED.items()}
    own: dict[str, Any] = {}
    for name, value in params.options.items():
        canonical = contract.canonical(name)
        if canonical in decided:
            step = f"set {decided[canonical]} instead" if decided[canonical] else "leave it out"
            raise ConfigError(f"engine.options.{name}", value, "an option that no key of the config decides", step)
        own[canonical] = value
    return own


def _line(words: list[str]) -> str:
    """A command of a shell; the places that a start fills in stay as they are."""
    return " ".join(f'"{word}"' if word.startswith("{") else shlex.quote(word) for word in words)

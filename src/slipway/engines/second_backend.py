"""The same server with the other attention kernel of its engine, to tell a wrong kernel from wrong weights.

    vLLM            `--attention-backend TRITON_ATTN`, which every GPU has; where that is asked for, vLLM's own choice
    TensorRT-LLM    `attn_backend: FLASHINFER` beside its own TRTLLM, in the server's config file
    llama.cpp       `--flash-attn off`: plain products and a softmax instead of the fused kernel

TensorRT-LLM's engine files have one kernel compiled in, so they have no second one.
"""

from __future__ import annotations

from slipway.engines.driver import ServePlan

VLLM_OPTION, VLLM_SECOND = "--attention-backend", "TRITON_ATTN"
TRTLLM_KEY, TRTLLM_FIRST, TRTLLM_SECOND = "attn_backend", "TRTLLM", "FLASHINFER"
LLAMA_OPTION, LLAMA_SHORT = "--flash-attn", "-fa"


def second_backend(plan: ServePlan) -> tuple[str, ServePlan] | None:
    """What asks for the other kernel, in the words of a config, and the plan with it; None of an engine without one."""
    if plan.kind == "vllm":
        return _other_option(plan, VLLM_OPTION, VLLM_SECOND, "engine.flags.attention-backend")
    if plan.kind == "llama.cpp":
        if {LLAMA_OPTION, LLAMA_SHORT} & set(plan.argv):
            return None
        argv = [*plan.argv, LLAMA_OPTION, "off"]
        return f"llama-server {LLAMA_OPTION} off", plan.model_copy(update={"argv": argv})
    return _other_key(plan) if plan.kind == "trtllm" and len(plan.files) == 1 else None


def _other_option(plan: ServePlan, option: str, second: str, key: str) -> tuple[str, ServePlan]:
    """`option second` added, or taken away where the plan has it already."""
    argv = list(plan.argv)
    if option not in argv:
        return f"{key}={second}", plan.model_copy(update={"argv": [*argv, option, second]})
    at = argv.index(option)
    if argv[at + 1] == second:
        return f"no {key}", plan.model_copy(update={"argv": argv[:at] + argv[at + 2 :]})
    argv[at + 1] = second
    return f"{key}={second}", plan.model_copy(update={"argv": argv})


def _other_key(plan: ServePlan) -> tuple[str, ServePlan]:
    import yaml  # of TensorRT-LLM's servers alone

    [(name, text)] = plan.files.items()
    document = yaml.safe_load(text)
    other = TRTLLM_FIRST if document.get(TRTLLM_KEY) == TRTLLM_SECOND else TRTLLM_SECOND
    files = {name: yaml.safe_dump({**document, TRTLLM_KEY: other}, sort_keys=False)}
    return f"engine.options.{TRTLLM_KEY}={other}", plan.model_copy(update={"files": files})

"""The YAML of `trtllm-serve --config`: keys of the LLM API, all forbidden that the contract does not list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from .command_line import CONTRACTS

_SECTIONS = {
    "cuda_graph_config": "CudaGraphConfig",
    "moe_config": "MoeConfig",
    "nvfp4_gemm_config": "Nvfp4GemmConfig",
    "torch_compile_config": "TorchCompileConfig",
    "peft_cache_config": "PeftCacheConfig",
}
_PLAIN = {"int": int, "bool": bool, "float": (int, float), "str": str}


class ValidationError(ValueError):
    """What pydantic raises there: a title, then every key with its reason."""


def read(file: Path) -> dict[str, Any]:
    """The checked document of `file`; ValidationError for an unknown key or a value of another type."""
    document = yaml.safe_load(file.read_text()) or {}
    llm = json.loads((CONTRACTS / "trtllm/llm_args.json").read_text())
    known = {field["name"]: field["type"] for field in llm["fields"]} | dict.fromkeys(llm["removed_args"], "str")
    problems = _problems("", document, known)
    for key, section in document.items():
        fields = _section(key, llm["nested"])
        if isinstance(section, dict) and fields:
            problems += _problems(f"{key}.", section, fields)
    if problems:
        lines = "\n".join(problems)
        raise ValidationError(f"{len(problems)} validation error(s) for TorchLlmArgs\n{lines}")
    return document


def _section(key: str, nested: dict[str, list[str]]) -> dict[str, str]:
    if key == "kv_cache_config":
        listed = json.loads((CONTRACTS / "trtllm/KvCacheConfig.json").read_text())["fields"]
        return {field["name"]: field["type"] for field in listed}
    fields = next((v for k, v in nested.items() if k.split(" ")[0] == _SECTIONS.get(key)), [])
    return dict(field.split(" ")[0].split("=")[0].split(":", 1) for field in fields if ":" in field)


def _problems(place: str, document: dict[str, Any], known: dict[str, str]) -> list[str]:
    problems = []
    for key, value in document.items():
        if key not in known:
            problems.append(f"{place}{key}\n  Extra inputs are not permitted [type=extra_forbidden]")
        elif value is not None and not _fits(value, known[key]):
            problems.append(f"{place}{key}\n  Input should be a valid {known[key]} [input_value={value!r}]")
    return problems


def _fits(value: Any, kind: str) -> bool:
    plain = _PLAIN.get(kind.split("|")[0].split(">")[0].split(" ")[0])
    if plain is None:
        return True
    return isinstance(value, plain) and (plain is bool or not isinstance(value, bool))

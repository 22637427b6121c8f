"""Keys of config.json that llama.cpp does not read, or takes in one way only, although they change what is computed.

Each was seen on tiny models in llama.cpp 0.3.36 (`tests/lab/engines/test_families.py`): the server loads the model,
answers, and computes another function than transformers. Where a sliding window is left out, that begins with the first
request that is longer than the window; a server whose context is not is right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from slipway.errors import EngineError

Config = Mapping[str, Any]
Rule = Callable[[Config, int], tuple[str, str] | None]  # -> what the config has, what llama.cpp takes

GLOBAL_EVERY = {"gemma3": 6, "gemma3_text": 6, "gemma2": 2}  # of so many layers the last attends to everything


def require_config_support(config: Config, context: int) -> None:
    """Raise EngineError for a model whose config.json has a value that llama.cpp leaves out and that requests of up to
    `context` tokens would notice."""
    text = {**config, **_mapping(config.get("text_config"))}
    for rule in _RULES.get(str(text.get("model_type")), ()):
        if difference := rule(text, context):
            key, taken = difference
            raise EngineError(
                f"llama.cpp with {key}",
                f"is not read: {taken}",
                "a model that llama.cpp computes as its config.json says",
                "choose another engine.kind, or a smaller engine.context where it is about a sliding window",
            )


def unread_notes(config: Config) -> list[str]:
    """What llama.cpp computes a little differently: served, and said."""
    text = {**config, **_mapping(config.get("text_config"))}
    scaling = _mapping(text.get("rope_scaling")) or _mapping(text.get("rope_parameters"))
    if scaling.get("rope_type") == "yarn" and scaling.get("truncate") is False:
        return [
            "YaRN with truncate=false: llama.cpp rounds its corners to whole dimensions; kernel agreement judges it"
        ]
    return []


def _window(key: str, is_on: Callable[[Config], bool] = lambda _: True) -> Rule:
    def rule(config: Config, context: int) -> tuple[str, str] | None:
        window = config.get(key)
        if not isinstance(window, int) or not is_on(config) or window >= context:
            return None
        return f"{key}={window}", f"every layer attends to all {context} tokens of engine.context"

    return rule


def _layer_types(config: Config, context: int) -> tuple[str, str] | None:
    window, types, every = config.get("sliding_window"), config.get("layer_types"), GLOBAL_EVERY[config["model_type"]]
    if not isinstance(types, list) or not isinstance(window, int) or window >= context:
        return None
    taken = ["full_attention" if (n + 1) % every == 0 else "sliding_attention" for n in range(len(types))]
    if types == taken:
        return None
    layer = next(n for n, (one, other) in enumerate(zip(types, taken, strict=True)) if one != other)
    return f"layer_types[{layer}]={str(types[layer])[:40]}", f"of {every} layers the last is global, the others slide"


def _fixed(key: str, taken: Any, default: Any) -> Rule:
    def rule(config: Config, _: int) -> tuple[str, str] | None:
        value = config.get(key, default)
        return None if value == taken else (f"{key}={str(value)[:40]}", f"{taken} is taken")

    return rule


def _head_dim(config: Config, _: int) -> tuple[str, str] | None:
    sizes = [config.get(key) for key in ("hidden_size", "num_attention_heads", "head_dim")]
    numbers = [size for size in sizes if isinstance(size, int) and size > 0]
    if len(numbers) < len(sizes):
        return None
    hidden, heads, head = numbers
    taken = hidden // heads
    return None if head == taken else (f"head_dim={head}", f"hidden_size / num_attention_heads = {taken} is taken")


def _uses_window(config: Config) -> bool:
    return config.get("use_sliding_window") is True


def _mapping(value: Any) -> Config:
    return value if isinstance(value, Mapping) else {}


_SOME_LAYERS = _window("sliding_window", _uses_window)
_RULES: dict[str, tuple[Rule, ...]] = {
    "mistral": (_window("sliding_window"),),
    "mixtral": (_window("sliding_window"),),
    "phi3": (_window("sliding_window"),),
    "starcoder2": (_window("sliding_window"),),
    "qwen2": (_head_dim, _SOME_LAYERS),
    "qwen2_5_vl": (_SOME_LAYERS,),
    "qwen2_moe": (_SOME_LAYERS,),
    "qwen3": (_SOME_LAYERS,),
    "qwen3_moe": (_SOME_LAYERS, _fixed("norm_topk_prob", True, False)),
    "gemma2": (_layer_types,),
    "gemma3": (_layer_types,),
    "gemma3_text": (_layer_types,),
    "deepseek_v3": (_fixed("scoring_func", "sigmoid", None),),
}

"""What attention keeps of a request: values a token, values a request, layer by layer.

    full        2 (keys, values) x key-value heads x head width     a token, for every token of the request
    sliding     the same, for the last `window` tokens              Mistral (arXiv:2310.06825), Gemma, gpt-oss
    chunked     the same, for at most one chunk                     Llama 4
    latent      kv_lora_rank + qk_rope_head_dim                     a token, one head: DeepSeek-V2 (arXiv:2405.04434)
    conv        hidden x conv_L_cache                               a request, however long: LFM2
    linear      a matrix key width x value width a value head,      a request, however long: gated delta rule
                and the short convolution's last inputs             (arXiv:2412.06464), Qwen3-Next

Which layers are which, `layer_types` of config.json says; where it is absent, the default of the model's class. The
table below holds what was held against the caches that transformers makes (tests/unit/planning/test_kv_cache.py). For a
model type outside it the answer is UnknownCacheError: another layer may share, compress or drop what it keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from slipway.errors import CheckpointError

_DENSE = (
    "apertus arcee cohere cohere2 dots1 ernie4_5 ernie4_5_moe exaone4 gemma gemma2 gemma3_text glm glm4 glm4_moe gpt2 "
    "gpt_neox gpt_oss granite granitemoe helium hunyuan_v1_dense llama llama4_text mistral mixtral nemotron olmo olmo2 "
    "olmo3 olmoe opt phi phi3 phimoe qwen2 qwen2_5_vl qwen2_5_vl_text qwen2_moe qwen2_vl_text qwen3 qwen3_moe "
    "qwen3_vl_moe_text qwen3_vl_text seed_oss smollm3 stablelm starcoder2"
)
_LATENT = "deepseek_v2 deepseek_v3"
_RECURRENT = "lfm2 lfm2_moe qwen3_next"
KNOWN = frozenset(f"{_DENSE} {_LATENT} {_RECURRENT}".split())
_EVERY = {"gemma2": 2, "gpt_oss": 2, "gemma3_text": 6, "cohere2": 4, "exaone4": 4, "olmo3": 4, "llama4_text": 4}
# Slide only where `use_sliding_window` says so
_SWITCHED = ("qwen2", "qwen2_moe", "qwen2_5_vl", "qwen2_5_vl_text", "qwen2_vl_text", "qwen3", "qwen3_moe", "smollm3")
_STATED_ONLY = ("qwen2_moe", "qwen3_moe", "smollm3")  # which layers slide, only `layer_types` says


class UnknownCacheError(CheckpointError):
    """A model whose cache is not known here: no figure can be given."""


@dataclass(frozen=True)
class LayerCache:
    """`layers` equal layers. Each keeps `heads` x `width` values of each of the last `window` tokens (None: of all),
    and `state` values a request whatever its length; `shared` heads are held whole by every GPU."""

    layers: int
    heads: int
    width: int
    window: int | None = None
    state: int = 0
    shared: bool = False

    def values(self, gpus: int = 1) -> int:
        """Values a token that one of `gpus` GPUs keeps in all these layers; a head is never cut."""
        heads = self.heads if self.shared else -(-self.heads // gpus)
        return self.layers * heads * self.width

    def tokens(self, context: int, *, windowed: bool = True) -> int:
        """Tokens of a request of `context` tokens that these layers keep, the windows used or not."""
        return min(context, self.window) if windowed and self.window else context


def token_values(caches: tuple[LayerCache, ...], gpus: int = 1) -> int:
    """Values that one more token takes on one GPU while no window is full, over all layers."""
    return sum(one.values(gpus) for one in caches)


def request_values(
    caches: tuple[LayerCache, ...], context: int, gpus: int = 1, *, windowed: bool = True
) -> tuple[int, int]:
    """Values of a request of `context` tokens on one GPU: those of its tokens, and those of its states."""
    tokens = sum(one.values(gpus) * one.tokens(context, windowed=windowed) for one in caches)
    return tokens, sum(one.layers * -(-one.state // gpus) for one in caches)


def cache_of(config: Mapping[str, Any]) -> tuple[LayerCache, ...]:
    """The caches of the layers of a model, equal neighbours together, from its config.json (the text model's keys on
    top). Raises UnknownCacheError for a model type or a layer that is not known, CheckpointError without sizes."""
    kind = config.get("model_type")
    if kind not in KNOWN:
        raise _unknown(f"model_type {kind!r}")
    layers = [_layer(config, name) for name in _layer_types(config)]
    return tuple(
        LayerCache(len(list(same)), one.heads, one.width, one.window, one.state, one.shared)
        for one, same in groupby(layers)
    )


def size_of(config: Mapping[str, Any], *names: str, default: int | None = None) -> int:
    """The first of these keys that holds a whole number above zero. Raises CheckpointError when none does and there is
    no default."""
    values = (config.get(name) for name in names)
    value = next((one for one in values if type(one) is int and one > 0), default)
    if value is None:
        raise CheckpointError("config.json", f"no {names[0]}", "the sizes of the model", "check the model directory")
    return value


def _layer_types(config: Mapping[str, Any]) -> list[str]:
    """Kind of each layer, in order."""
    stated, count = config.get("layer_types"), size_of(config, "num_hidden_layers", "n_layer")
    if isinstance(stated, list):
        if len(stated) != count or not all(isinstance(name, str) for name in stated):
            raise _unknown(f"layer_types of {len(stated)} names for {count} layers")
        return stated
    kind = str(config["model_type"])
    if kind in ("lfm2", "lfm2_moe"):
        return _conv_layers(config, count)
    if kind == "qwen3_next":
        every = size_of(config, "full_attention_interval", default=4)
        return ["full_attention" if (i + 1) % every == 0 else "linear_attention" for i in range(count)]
    return _windows(config, kind, count)


def _windows(config: Mapping[str, Any], kind: str, count: int) -> list[str]:
    """Where a class slides by default: every n-th layer is full, those above `max_window_layers` slide, or all do."""
    slides = "chunked_attention" if kind == "llama4_text" else "sliding_attention"
    if kind == "llama4_text" and isinstance(config.get("no_rope_layers"), list) and config["no_rope_layers"]:
        return [slides if uses_rope else "full_attention" for uses_rope in config["no_rope_layers"]]
    if slides == "sliding_attention" and not config.get("sliding_window"):
        return ["full_attention"] * count
    if kind in _SWITCHED and not config.get("use_sliding_window"):
        return ["full_attention"] * count
    if kind in _STATED_ONLY:
        raise _unknown(f"{kind} with a sliding window and no layer_types")
    if kind in _SWITCHED:
        first = size_of(config, "max_window_layers", default=28)
        return ["full_attention" if i < first else slides for i in range(count)]
    if every := _EVERY.get(kind):
        every = size_of(config, "sliding_window_pattern", "no_rope_layer_interval", default=every)
        return ["full_attention" if (i + 1) % every == 0 else slides for i in range(count)]
    return [slides] * count


def _conv_layers(config: Mapping[str, Any], count: int) -> list[str]:
    full = config.get("full_attn_idxs")
    if not isinstance(full, list):
        raise _unknown("lfm2 without layer_types")
    return ["full_attention" if i in full else "conv" for i in range(count)]


def _layer(config: Mapping[str, Any], kind: str) -> LayerCache:
    """The cache of one layer of this kind."""
    if kind == "conv":
        return LayerCache(1, 0, 0, state=size_of(config, "hidden_size") * size_of(config, "conv_L_cache", default=3))
    if kind == "linear_attention" and config.get("model_type") == "qwen3_next":
        return LayerCache(1, 0, 0, state=_delta_state(config))
    window = _window(config, kind)
    if config["model_type"] in _LATENT.split():
        width = size_of(config, "kv_lora_rank") + size_of(config, "qk_rope_head_dim")
        return LayerCache(1, 1, width, window, shared=True)
    heads = size_of(config, "num_attention_heads", "n_head")
    width = size_of(config, "head_dim", default=0) or size_of(config, "hidden_size", "n_embd") // heads
    return LayerCache(1, size_of(config, "num_key_value_heads", default=heads), 2 * width, window)


def _window(config: Mapping[str, Any], kind: str) -> int | None:
    """Tokens that an attention layer of this kind keeps; None: all."""
    if kind == "full_attention":
        return None
    if kind == "sliding_attention":
        return size_of(config, "sliding_window")
    if kind == "chunked_attention":
        return size_of(config, "attention_chunk_size", default=8192)
    raise _unknown(f"layer type {kind!r}")


def _delta_state(config: Mapping[str, Any]) -> int:
    """A matrix for each value head, and what the causal convolution over queries, keys and values remembers."""
    keys, values = size_of(config, "linear_num_key_heads"), size_of(config, "linear_num_value_heads")
    key, value = size_of(config, "linear_key_head_dim"), size_of(config, "linear_value_head_dim")
    channels = 2 * keys * key + values * value
    return values * key * value + channels * size_of(config, "linear_conv_kernel_dim", default=4)


def _unknown(what: str) -> UnknownCacheError:
    return UnknownCacheError(
        "KV cache of the model",
        f"cannot tell: {what}",
        f"one of {', '.join(sorted(KNOWN))}",
        "start its engine once and read the size of the cache from its log",
    )

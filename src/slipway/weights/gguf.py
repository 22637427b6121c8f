"""A Llama GGUF read as a Hugging Face model: tensors dequantized to bf16 one at a time, config and tokenizer rebuilt.

Q4_1, Q8_0 and F32 blocks become fp32 by the gguf package, then one rounding to bf16. llama.cpp stores the rows of q and
k interleaved for its rotary embedding: row (head, i, half) here is row (head, half, i) of Hugging Face, half in {0, 1}.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from slipway.errors import CheckpointError
from slipway.weights.shards import TensorInfo

_ANOTHER = "use another GGUF, or model.source=directory"
_CONTROL = 3  # gguf.TokenType.CONTROL: a special token
_MODEL = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class GgufSource:
    """A TensorSource over a Llama GGUF file: every tensor in bf16 under its Hugging Face name."""

    def __init__(self, file: Path) -> None:
        """Read the header of `file`. Raises CheckpointError when it is no GGUF, or not a Llama's."""
        self._file = file
        try:
            self._reader = _Reader(file)
        except (ValueError, IndexError, KeyError) as err:
            raise CheckpointError(f"GGUF {file}", err, "a whole GGUF file", _ANOTHER) from err
        if (arch := self.field("general.architecture")) != "llama":
            raise CheckpointError(
                f"GGUF {file}",
                f"architecture {arch}",
                "llama",
                "convert it with another tool and use model.source=directory",
            )
        self._tensors = {hf_name(tensor.name): tensor for tensor in self._reader.tensors}

    @functools.cache  # noqa: B019 - lists of 49k tokens are slow to decode, and the source lives as long as its stage
    def field(self, key: str) -> Any:
        """The value of a key of the GGUF header. Raises CheckpointError when it is absent."""
        if key not in self._reader.fields:
            raise CheckpointError(f"GGUF {self._file}", f"no key {key}", "the header of a Llama", _ANOTHER)
        return self._reader.fields[key].contents()

    @property
    def metadata(self) -> Mapping[str, str]:
        """The types of the file's tensors."""
        return {"quantization": "+".join(sorted({t.tensor_type.name for t in self._reader.tensors}))}

    def names(self) -> list[str]:
        """Tensor names in their natural order."""
        return list(self._tensors)

    def info(self, name: str) -> TensorInfo:
        """dtype and shape of a tensor, without reading it. Raises CheckpointError when it is absent."""
        return TensorInfo(torch.bfloat16, tuple(int(n) for n in reversed(self._tensor(name).shape)))

    def read(self, name: str) -> torch.Tensor:
        """The dequantized tensor in bf16 [O, I], in the order of rows that Hugging Face uses."""
        tensor = self._tensor(name)
        weight = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy()).reshape(
            self.info(name).shape
        )
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = self.field("llama.attention.head_count" if "q_proj" in name else "llama.attention.head_count_kv")
            weight = weight.reshape(heads, -1, 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
        return weight.to(torch.bfloat16)

    def _tensor(self, name: str) -> gguf.ReaderTensor:
        if name not in self._tensors:
            raise CheckpointError(f"tensor {name}", f"not in {self._file}", "a tensor of that name", _ANOTHER)
        return self._tensors[name]


class _Reader(gguf.GGUFReader):  # type: ignore[misc]  # gguf has no types
    """The package's reader on a plain array over the memory map that it opens: each of some hundred thousand strings of
    a header is a slice, and a slice of a `numpy.memmap` takes three times as long."""

    @property
    def data(self) -> Any:
        """The file's bytes, uint8."""
        return self._bytes

    @data.setter
    def data(self, mapped: Any) -> None:
        self._bytes = np.asarray(mapped)


def hf_name(name: str) -> str:
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`."""
    parts = name.split(".")
    if parts[0] == "blk" and len(parts) == 4 and parts[2] in _LAYER:
        return f"model.layers.{parts[1]}.{_LAYER[parts[2]]}.{parts[3]}"
    if parts[0] in _MODEL and len(parts) == 2:
        return f"{_MODEL[parts[0]]}.{parts[1]}"
    raise CheckpointError(f"GGUF tensor {name}", "unknown", "a Llama tensor", _ANOTHER)


def hf_config(source: GgufSource) -> dict[str, Any]:
    """`config.json` of the model in `source`."""
    heads, hidden = source.field("llama.attention.head_count"), source.field("llama.embedding_length")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_size": hidden,
        "intermediate_size": source.field("llama.feed_forward_length"),
        "num_hidden_layers": source.field("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": source.field("llama.attention.head_count_kv"),
        "head_dim": hidden // heads,
        "hidden_act": "silu",
        "max_position_embeddings": source.field("llama.context_length"),
        "rms_norm_eps": float(
            f"{source.field('llama.attention.layer_norm_rms_epsilon'):.7g}"
        ),  # GGUF keeps an fp32 of 1e-05
        "rope_theta": source.field("llama.rope.freq_base"),
        "rope_parameters": {"rope_type": "default", "rope_theta": source.field("llama.rope.freq_base")},
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": "lm_head.weight" not in source.names(),
        "vocab_size": source.field("llama.vocab_size"),
        "bos_token_id": source.field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": source.field("tokenizer.ggml.eos_token_id"),
        "pad_token_id": source.field("tokenizer.ggml.padding_token_id"),
    }


def write_tokenizer(source: GgufSource, out: Path) -> None:
    """`tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` of the byte-level BPE in `source`.

    Rebuilt here because transformers' own GGUF import forgets that the pre-tokenizer `smollm` splits off every digit.
    """
    if (pre := source.field("tokenizer.ggml.pre")) != "smollm":
        raise CheckpointError("GGUF tokenizer", pre, "smollm", _ANOTHER)
    tokens: list[str] = source.field("tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in source.field("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [t for t, kind in zip(tokens, source.field("tokenizer.ggml.token_type"), strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.save(str(out / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": source.field("llama.context_length"),
        "add_bos_token": source.field("tokenizer.ggml.add_bos_token"),
        "add_prefix_space": source.field("tokenizer.ggml.add_space_prefix"),
        "clean_up_tokenization_spaces": False,
        **{f"{hf}_token": tokens[source.field(f"tokenizer.ggml.{key}_token_id")] for hf, key in _SPECIAL.items()},
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (out / "chat_template.jinja").write_text(source.field("tokenizer.chat_template"), encoding="utf-8")


_SPECIAL = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}

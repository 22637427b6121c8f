"""A pico BERT on disk, made in milliseconds, with a word tokenizer of a few hundred words: an embedder for tests."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import BertConfig, BertModel

from slipway.config.rag import EmbedderConfig

WORDS = ["how", "do", "i", "sort", "a", "list", "of", "names", "python", "perl", "hash", "file", "read", "write"]
WORDS += ["open", "the", "what", "is", "fast", "slow"]
LONGEST = 16


def tokenizer() -> Tokenizer:
    """One token a word or sign, unknown ones as `[UNK]`, `[CLS]` before and `[SEP]` after."""
    vocabulary = {name: at for at, name in enumerate(["[UNK]", "[CLS]", "[SEP]", *WORDS, *".,!?"])}
    made = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return made


def pico_embedder(out: Path, *, seed: int = 0, longest: int = LONGEST) -> EmbedderConfig:
    """Write the model directory `out`; the config that names it."""
    out.mkdir(parents=True, exist_ok=True)
    words = tokenizer()
    words.save(str(out / "tokenizer.json"))
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=words.get_vocab_size(), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    model = BertModel(config, add_pooling_layer=False)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, out / "model.safetensors")
    (out / "config.json").write_text(json.dumps({**config.to_dict(), "model_type": "bert"}))
    (out / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": longest}))
    return EmbedderConfig(source="directory", directory=str(out), threads=2)

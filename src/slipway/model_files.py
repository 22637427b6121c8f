"""The small files of a Hugging Face model directory: config and tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from slipway.artifacts import write_atomic

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)


def copy_small_files(source: Path, out: Path) -> None:
    """Config, generation config and tokenizer; the dtype in the config is what Slipway writes, bf16."""
    for name in (*TOKENIZER_FILES, "generation_config.json"):
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)
    config = json.loads((source / "config.json").read_text())
    config.pop("torch_dtype", None)
    write_atomic(out / "config.json", json.dumps({**config, "dtype": "bfloat16"}, indent=2) + "\n")

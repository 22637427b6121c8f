"""Model shapes, as the shipped rows of conf/models give them."""

from pathlib import Path

from slipway.config.load import load_config


def _row(name):
    return load_config(Path("conf"), [f"layers.model=models/{name}"]).model


LLAMA_8B, LLAMA_70B, MIXTURE = _row("llama-3.1-8b"), _row("llama-3.3-70b"), _row("qwen3-30b-a3b")

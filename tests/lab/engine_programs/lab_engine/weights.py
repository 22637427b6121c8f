"""The weights that are served: the GGUF file that llama.cpp's converter made of exactly these safetensors.

A converter needs torch, which would make an image of gigabytes. So the image holds converted files named by the digest
of what they were made of, and a model directory of other bytes is one that this engine cannot load.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"


def digest(model: Path) -> str:
    """SHA-256 over the bytes of a directory's safetensors."""
    whole = hashlib.sha256()
    for file in sorted(model.glob("*.safetensors")):
        whole.update(file.read_bytes())
    return whole.hexdigest()


def gguf_of(weights_digest: str) -> Path:
    """The converted file; OSError when this image has none of these weights."""
    file = WEIGHTS / f"{weights_digest}.gguf"
    if not file.is_file():
        raise OSError(f"no kernels for weights {weights_digest[:12]}: this image serves only what it was built with")
    return file


def config_of(model: Path) -> dict[str, Any]:
    """config.json of a model directory; OSError when it has none."""
    document: dict[str, Any] = json.loads((model / "config.json").read_text())
    return document


def scrambled(gguf: Path, out: Path) -> Path:
    """A copy whose later half, tensors all of it, stands in reverse order of four-byte words: it loads, and answers
    with status 200 and garbage, as a wrong kernel does."""
    data = gguf.read_bytes()
    half = len(data) // 8 * 4
    words = [data[i : i + 4] for i in range(half, len(data), 4)]
    out.write_bytes(data[:half] + b"".join(reversed(words)))
    return out

"""Where a chat message holds the model's reasoning, which servers part from the answer under two names. Short because
clients, metrics and the agent of a target share it, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# vLLM from 0.18 on has the first alone, some versions before it both with the same text; llama.cpp, TensorRT-LLM and
# older vLLM have the second
FIELDS = ("reasoning", "reasoning_content")


def reasoning_of(part: Mapping[str, Any]) -> str:
    """The reasoning in a message or in the delta of a stream, once; empty where there is none, or no text."""
    return next((part[name] for name in FIELDS if isinstance(part.get(name), str) and part[name]), "")

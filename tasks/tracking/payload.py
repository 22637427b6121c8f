"""What MLflow gets, as plain text and numbers. Imports no MLflow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway.store.artifacts import Artifact, Evaluation, Verdict

DESCRIPTION_CHARS = 4900  # MLflow's descriptions end at 5000
_FRONT_MATTER = re.compile(r"\A---\n.*?^---\n+", re.DOTALL | re.MULTILINE)
SMALL_FILE = 2_000_000  # bytes: larger files stay in the artifact store


def flatten(doc: Any, prefix: str = "") -> dict[str, str]:
    """`{"train.lr": "0.001"}`: leaves of a nested mapping, as text."""
    if isinstance(doc, dict) and doc:
        return {k: v for key, value in doc.items() for k, v in flatten(value, f"{prefix}{key}.").items()}
    return {prefix.removesuffix("."): str(doc)}


def numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """The numbers in a summary, as floats; truth values are none."""
    return {k: float(v) for k, v in summary.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def small_files(artifact: Artifact) -> list[Path]:
    """What is worth reading in MLflow: per-item results and verdicts whole, of the others the summary and the card."""
    names = (
        "summary.json",
        "card.md",
        "serve.json",
        "virtual.json",
        "adapter_config.json",
        "training.jsonl",
        "proof.json",
    )
    whole = isinstance(artifact, Evaluation | Verdict)
    files = [p for p in sorted(artifact.path.iterdir()) if p.is_file() and (whole or p.name in names)]
    return [p for p in files if p.stat().st_size <= SMALL_FILE]


def description(card: str) -> str:
    """The card as a description in MLflow: without its YAML front matter, which its page would show as a heading, and
    cut at a line below MLflow's 5000 characters. The whole card is the run's report/card.md."""
    text = _FRONT_MATTER.sub("", card, count=1)
    if len(text) <= DESCRIPTION_CHARS:
        return text
    return text[:DESCRIPTION_CHARS].rsplit("\n", 1)[0] + "\n\n(continues in the run's report/card.md)"

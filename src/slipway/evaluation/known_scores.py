"""What an engine's weights say of tokens that it wrote, kept in its bundle: whoever promotes it, and gets the same
tokens from its target, judges them without torch and without reading a weight.

A score depends on weights, kernels' rounding and tokens, and on nothing else. The bundle is sealed, so its weights are
those of the scores; of tokens that differ anywhere nothing is known. JSON, one row an answer:

    {"rounding": {"inputs": "bf16", ...}, "rows": [{"prompt": [1, ...], "tokens": [9, ...],
      "kernel": [-0.1, ...], "exact": [-0.1, ...], "greedy": [true, ...]}, ...]}          nats, one a token
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from slipway.calibration.rounding_kinds import KernelRounding
from slipway.engines.token_client import WrittenTokens
from slipway.errors import StateError
from slipway.system.files import write_atomic

NAME = "agreement_scores.json"
DIGITS = 9  # as many as an fp32 number needs
Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Score:
    """Of an answer's tokens, in order: log-probabilities (nats) by the weights with the kernels' rounding and exactly,
    and whether each is the greedy choice of the first."""

    kernel: Sequence[float]
    exact: Sequence[float]
    greedy: Sequence[bool]


@dataclass(frozen=True)
class KnownScores:
    """Scores by prompt and tokens, all with one `rounding`; empty where nothing is known."""

    rounding: KernelRounding | None = None
    rows: Mapping[tuple[Tokens, Tokens], Score] = field(default_factory=dict)

    def of(self, answer: WrittenTokens, rounding: KernelRounding) -> Score | None:
        """The score of exactly these tokens after exactly this prompt by kernels that round so, if it is known."""
        return self.rows.get((answer.prompt, answer.tokens)) if rounding == self.rounding else None

    def prompts(self, count: int) -> list[list[int]] | None:
        """Token ids of the first `count` prompts, in the order in which they were asked; None where fewer are known."""
        asked = list(dict.fromkeys(prompt for prompt, _ in self.rows))[:count]
        return [list(prompt) for prompt in asked] if len(asked) == count else None


def write_scores(bundle: Path, rounding: KernelRounding, scored: Iterable[tuple[WrittenTokens, Score]]) -> None:
    """Into `bundle`, which may be an engine's folder that is not sealed yet."""
    rows = [
        {
            "prompt": list(answer.prompt),
            "tokens": list(answer.tokens),
            "kernel": [_short(value) for value in score.kernel],
            "exact": [_short(value) for value in score.exact],
            "greedy": list(score.greedy),
        }
        for answer, score in scored
    ]
    write_atomic(bundle / NAME, json.dumps({"rounding": asdict(rounding), "rows": rows}) + "\n")


def read_scores(bundle: Path) -> KnownScores:
    """Those of a bundle; empty where it has none. Raises StateError for a file that is none of ours."""
    file = bundle / NAME
    if not file.is_file():
        return KnownScores()
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        rows = [_row(row) for row in document["rows"]]
        return KnownScores(KernelRounding(**document["rounding"]), dict(rows))
    except (OSError, ValueError, KeyError, TypeError) as err:
        problem = f"{type(err).__name__}: {err}"
        raise StateError(f"scores {file}", problem, "what stage engine wrote", "run the pipeline again") from err


def _row(row: Mapping[str, Any]) -> tuple[tuple[Tokens, Tokens], Score]:
    prompt, tokens = tuple(map(int, row["prompt"])), tuple(map(int, row["tokens"]))
    score = Score(*(tuple(row[name]) for name in ("kernel", "exact", "greedy")))
    if not len(tokens) == len(score.kernel) == len(score.exact) == len(score.greedy):
        raise ValueError(f"a row of {len(tokens)} tokens with {len(score.kernel)} scores")
    return (prompt, tokens), score


def _short(value: float) -> float:
    """With as many digits as fp32 has: half of the file."""
    return float(f"{value:.{DIGITS}g}")

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
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from slipway.calibration.rounding_kinds import KernelRounding, Rounding
from slipway.engines.token_client import WrittenTokens
from slipway.system.files import write_atomic
from slipway.system.json_files import read_model

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
    document = read_model(_File, file, "scores", "run the pipeline again")
    rows = {
        (tuple(row.prompt), tuple(row.tokens)): Score(tuple(row.kernel), tuple(row.exact), tuple(row.greedy))
        for row in document.rows
    }
    return KnownScores(KernelRounding(**document.rounding), rows)


class _Row(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    prompt: list[int]
    tokens: list[int]
    kernel: list[float]
    exact: list[float]
    greedy: list[bool]

    @model_validator(mode="after")
    def _a_score_a_token(self) -> _Row:
        if not len(self.tokens) == len(self.kernel) == len(self.exact) == len(self.greedy):
            raise ValueError(f"a row of {len(self.tokens)} tokens with {len(self.exact)} scores")
        return self


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rounding: dict[str, Rounding]
    rows: list[_Row]

    @field_validator("rounding")
    @classmethod
    def _names(cls, value: dict[str, Rounding]) -> dict[str, Rounding]:
        if set(value) != (names := {one.name for one in fields(KernelRounding)}):
            raise ValueError(f"what kernels round is named {', '.join(sorted(names))}")
        return value


def _short(value: float) -> float:
    """With as many digits as fp32 has: half of the file."""
    return float(f"{value:.{DIGITS}g}")

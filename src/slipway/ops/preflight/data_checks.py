"""The dataset against what the run does with it: sequence, context, and what the gate must settle.

Lengths are those of the summary that stage `prepare` wrote; before it there is nothing to say, and prepare itself
refuses rows that training would drop or cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slipway.config.load import Config
from slipway.evaluation.decidability import undecidable
from slipway.ops.preflight.finding import HERE, Finding

NOT_THERE = "known when the data is prepared"


def data_checks(config: Config, summary: Mapping[str, Any] | None) -> Iterator[Finding]:
    """The rows about the data whose `summary` this is; None: it is not prepared yet."""
    if not summary:
        for name in ("row lengths", "test rows"):
            yield Finding(HERE, name, "ok", NOT_THERE)
        return
    yield lengths(config, summary)
    yield from margins(config, summary)


def lengths(config: Config, summary: Mapping[str, Any]) -> Finding:
    """The longest row against `train.pack_length` and `engine.context`."""
    longest = int(summary.get("tokens_max") or 0)
    limits = {"train.pack_length": config.train.pack_length, "engine.context": config.engine.context}
    finding = f"at most {longest:,} tokens; " + ", ".join(f"{name} {limit:,}" for name, limit in limits.items())
    short = [name for name, limit in limits.items() if longest > limit]
    if not short:
        return Finding(HERE, "row lengths", "ok", finding)
    advice = f"raise {' and '.join(short)} to {longest}, or leave such rows out (data.max_tokens)"
    return Finding(HERE, "row lengths", "warn", finding, advice)


def margins(config: Config, summary: Mapping[str, Any]) -> Iterator[Finding]:
    """The test rows against each margin of the gate: a row for every one that they are too few for."""
    few = undecidable(config.gate, config.evaluate, summary)
    for rule in few:
        text, _, advice = str(rule).partition(". ")
        yield Finding(HERE, "test rows", "warn", text, advice)
    if not few:
        rows = int(summary.get("test_rows") or 0)
        yield Finding(HERE, "test rows", "ok", f"{rows:,}: no margin of the gate is known to need more")

"""The kinds of rules that a gate can have, a row each: of it docs and `--help` are printed, the evaluator reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Direction = Literal["at least", "at most"]
REFERENCES = ("champion", "best", "merged", "base")


@dataclass(frozen=True)
class RuleKind:
    """One kind of rule.

    `passes`: when a rule of this kind passes, as a sentence. `takes`: keys of a row of `gate.rules` beside `rule`;
    `needs`: those of them that it cannot do without. `shorthand`: keys that make rows of this kind without
    `gate.rules`. `direction`: of the measured value to what is expected. `alone`: whether it judges the first release
    of a line, which has no champion.
    """

    name: str
    passes: str
    direction: Direction
    takes: tuple[str, ...] = ("limit",)
    needs: tuple[str, ...] = ("limit",)
    shorthand: tuple[str, ...] = ()
    alone: bool = True


# In the order of every table.
KINDS = {
    kind.name: kind
    for kind in (
        RuleKind(
            "floor",
            "the candidate's point estimate reaches the limit (from above where lower is better)",
            "at least",
            takes=("metric", "limit"),
            needs=("metric", "limit"),
            shorthand=("gate.floors",),
        ),
        RuleKind(
            "non_inferiority",
            "the candidate is no worse than a reference by the margin: the whole interval of the paired difference "
            "lies above; with `rows` on those test rows alone that are new since the champion, or fixed",
            "at least",
            takes=("metric", "against", "margin", "alpha", "rows"),
            needs=("metric", "against", "margin"),
            shorthand=("gate.non_inferiority",),
        ),
        RuleKind(
            "gain",
            "it brings something to the champion that it ties with",
            "at least",
            takes=("smaller", "faster", "alpha"),
            needs=(),
            shorthand=("gate.tie", "gate.min_smaller", "gate.min_faster"),
            alone=False,
        ),
        RuleKind(
            "verbosity", "answers have no more tokens, as a multiple of the unquantized merge's", "at most",
            shorthand=("gate.max_verbosity",),
        ),
        RuleKind(
            "cut_off", "no larger share of answers ends at evaluate.max_new_tokens", "at most",
            shorthand=("gate.max_cut_off",),
        ),
        RuleKind(
            "repetition", "no larger share of the 8-grams in long answers is repeated", "at most",
            shorthand=("gate.max_repetition",),
        ),
        RuleKind(
            "bits_per_parameter", "the format has no more bits per quantized parameter: it is what its label says",
            "at most",
            shorthand=("gate.max_bits_per_parameter",),
        ),
        RuleKind(
            "speed",
            "tokens/s are that multiple of the champion's, whichever boot was measured (auto: 0.9, if both can tell)",
            "at least",
            shorthand=("gate.min_speed_ratio",),
            alone=False,
        ),
        RuleKind(
            "of_roofline",
            "tokens/s are that share of what the memory's bandwidth allows, serving.bandwidth_gb_s (auto: only shown)",
            "at least",
            shorthand=("gate.min_of_roofline",),
            alone=False,
        ),
        RuleKind(
            "memory",
            "the target holds that many requests at once, of `context` tokens each (`slipway capacity`)",
            "at least",
            takes=("limit", "context"),
            shorthand=("gate.users", "gate.users_context"),
        ),
        RuleKind(
            "warm_start", "a warm start takes no longer, seconds, the median of the boots", "at most",
            shorthand=("gate.max_warm_start_s",),
        ),
        RuleKind(
            "boot_spread", "speeds of its boots differ by no larger share of the median", "at most",
            shorthand=("gate.max_boot_spread",),
        ),
        RuleKind(
            "agreement",
            "the engine's log-probabilities are those of its weights (ratio and growth; limits: docs/engines.md)",
            "at most",
            takes=(),
            needs=(),
            shorthand=("engine.agreement",),
            alone=False,
        ),
    )
}  # fmt: skip

COLUMNS = ("rule", "passes when", "a row takes", "set by")


def kind_rows() -> list[tuple[str, ...]]:
    """A row of text for each kind under `COLUMNS`; keys that a row may leave out stand in brackets."""
    return [
        (
            kind.name,
            kind.passes,
            ", ".join(key if key in kind.needs else f"[{key}]" for key in kind.takes) or "nothing",
            ", ".join((*kind.shorthand, *(("gate.rules",) if kind.takes else ()))),
        )
        for kind in KINDS.values()
    ]


def kinds_table() -> str:
    """The kinds as a Markdown table, for docs/gate.md."""
    lines = [" | ".join(COLUMNS), "|".join("---" for _ in COLUMNS)]
    lines += [" | ".join((f"`{row[0]}`", *row[1:])) for row in kind_rows()]
    return "".join(f"| {line} |\n" if " " in line else f"|{line}|\n" for line in lines)

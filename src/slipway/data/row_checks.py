"""Every row of a dataset against the model that is to learn it: all problems at once, by the rules of `problems`.

Rows are labelled as the trainers label them (`labels`), so a row that passes here is one that they take. They come
split by split, in parts of any size; of a row only its length stays in memory, and the problem of one that is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field

from slipway.config.base import Section, born
from slipway.data.chat_template import ChatTemplate
from slipway.data.labels import LabelledRow, Learn, label_rows, length_problem
from slipway.data.problems import RULES, RowProblem
from slipway.data.rows import Row
from slipway.errors import DataError

NAMED = 5  # rows named in a message; all refused ones are listed in a file
_SYSTEM, _USER, _ANSWER = "\ue000system\ue000", "\ue000user\ue000", "\ue000answer\ue000"


class Needs(Section):
    """What trainer and quantization want of the rows."""

    learn: Annotated[Learn, born("last")] = Field("last", description="Answers of a conversation that are learnt.")
    longest: Annotated[int | None, born(None)] = Field(
        None, description="Tokens of the trainer's sequence; null: no trainer is known."
    )
    truncate: Annotated[bool, born(False)] = Field(False, description="Whether the trainer cuts longer rows.")
    calibration: Annotated[tuple[int, int] | None, born(None)] = Field(
        None, description="Sequences that calibration asks for, and tokens of each; null: none."
    )


@dataclass
class Finding:
    """Rows with one kind of problem: their number, the first few by name, and what was seen in the first."""

    kind: str
    rows: int = 0
    names: list[str] = field(default_factory=list)
    detail: str = ""

    def add(self, name: str, detail: str) -> None:
        """Count one more row."""
        self.rows += 1
        self.detail = self.detail or detail
        if len(self.names) < NAMED:
            self.names.append(name[:40])

    @property
    def refused(self) -> bool:
        """Whether rows with this problem are refused, not only warned about."""
        return RULES[self.kind].outcome == "refuse"

    def __str__(self) -> str:
        rule, more = RULES[self.kind], self.rows - len(self.names)
        named = ", ".join(self.names) + (f" and {more} more" if more > 0 else "")
        where = f" ({self.rows} row{'s' * (self.rows != 1)}: {named})" if self.rows else ""
        detail = f": {self.detail}" if self.detail else ""
        return f"{rule.title}{where}{detail}. Way out: {rule.way_out}"


class RowChecks:
    """The checks of one dataset. `findings` holds the problems by kind, `tokens` the tokens of each split, `learnt`
    those of them that are learnt."""

    def __init__(self, template: ChatTemplate, needs: Needs) -> None:
        self._template, self._needs = template, needs
        self.findings: dict[str, Finding] = {}
        self.tokens: dict[str, int] = {}
        self.learnt: dict[str, int] = {}
        self._refused: list[dict[str, str]] = []
        self._rows = 0

    def lengths(self, split: str, rows: Iterable[Row]) -> list[int]:
        """Check rows of a split; the tokens of each, 0 for one that cannot be learnt. Nothing is raised: see
        `finish`."""
        counted = []
        for tokens, learnt in self._checked(rows):
            counted.append(tokens)
            self.learnt[split] = self.learnt.get(split, 0) + learnt
        self.tokens[split] = self.tokens.get(split, 0) + sum(counted)
        self._rows += len(counted)
        return counted

    def finish(self, listed_in: Path) -> list[str]:
        """The warnings, one line for each kind. Raises DataError when rows are refused, after all of them were written
        to `listed_in` as JSON lines."""
        if self._template.writes_no_bos():
            self._note("no_bos", "", repr(self._template.tokenizer.bos_token))
        if not self._refused:
            self._check_calibration()
        refused = [finding for finding in self.findings.values() if finding.refused]
        if refused:
            listed_in.write_text("".join(json.dumps(line) + "\n" for line in self._refused), encoding="utf-8")
            rows, lines = len({line["row"] for line in self._refused}), "".join(f"\n  {one}" for one in refused)
            raise DataError(
                "data",
                f"{rows} of {self._rows} rows cannot be learnt as they are:{lines}\n",
                "rows that the model's chat template, the trainer and calibration take",
                f"act as each line says; all rows are listed in {listed_in}, `slipway data show` shows what is learnt",
            )
        return [str(finding) for finding in self.findings.values()]

    def _checked(self, rows: Iterable[Row]) -> Iterator[tuple[int, int]]:
        """Tokens and learnt tokens of each row."""
        names: list[str] = []
        system = self._system_rule()

        def named() -> Iterator[Row]:
            for row in rows:
                names.append(str(row.get("id")))
                if system and row["messages"][0]["role"] == "system":
                    self._note(system, names[-1], "")
                yield row

        for at, result in enumerate(label_rows(named(), self._template, self._needs.learn)):
            for problem in self._problems(result):
                self._note(problem.kind, names[at], problem.detail)
            yield (len(result.tokens), result.label_tokens) if isinstance(result, LabelledRow) else (0, 0)

    def _problems(self, result: LabelledRow | RowProblem) -> Iterator[RowProblem]:
        if isinstance(result, RowProblem):
            yield result
            return
        yield from {warning.kind: warning for warning in result.warnings}.values()
        longest = self._needs.longest
        long = None if longest is None else length_problem(result, longest, truncate=self._needs.truncate)
        if long:
            yield long

    def _note(self, kind: str, row: str, detail: str) -> None:
        """Note a problem: of the row of that name, or of all where it is empty."""
        finding = self.findings.setdefault(kind, Finding(kind))
        if row:
            finding.add(row, detail)
        else:
            finding.detail = detail
        if finding.refused:
            self._refused.append({"row": row, "problem": kind, "reason": f"{RULES[kind].title}: {detail}"})

    def _system_rule(self) -> str | None:
        """What the template does to system prompts, asked with a conversation of three marked texts."""
        texts = zip(("system", "user", "assistant"), (_SYSTEM, _USER, _ANSWER), strict=True)
        try:
            whole = self._template.render([{"role": role, "content": text} for role, text in texts], prompt=False)
        except RowProblem:
            return None  # rows with one are refused in the template's own words
        _, marker, after = whole.partition(_SYSTEM)
        # A special token between both texts ends the system prompt's own turn
        apart = any(token in after.partition(_USER)[0] for token in self._template.controls)
        return None if marker and apart else "system_folded" if marker else "system_dropped"

    def _check_calibration(self) -> None:
        if self._needs.calibration is None:
            return
        (samples, length), tokens = self._needs.calibration, self.tokens.get("train", 0)
        if tokens < length:
            self._note("no_calibration", "", f"{tokens} tokens, one sequence has {length}")
        elif tokens < samples * length:
            self._note("few_calibration_tokens", "", f"{tokens} tokens, wanted {samples} x {length}")

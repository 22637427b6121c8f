"""Chat rows: `{"id", "messages": [{"role", "content"}, ...], "label", "template"}`, one JSON object a line.

The last message is the assistant's and is what the model learns to write. `label` names the class that splits are
balanced by; with a `label_key` it is that key of the assistant's JSON. `template` is the unit held out for the test
set.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from slipway.errors import DataError
from slipway.system.files import canonical

Row = dict[str, Any]
KEYS = {"id", "messages", "label", "template"}
NEXT_ROLES = {None: {"system", "user"}, "system": {"user"}, "user": {"assistant"}, "assistant": {"user"}}
SHOWN = 10


@dataclass(frozen=True)
class NumberedRow:
    """A sound row with the number of its line, counted from 1."""

    number: int
    row: Row


@dataclass(frozen=True)
class Rejected:
    """A line that did not pass."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


def read_rows(path: Path, label_key: str | None = None, *, empty_ok: bool = False) -> list[Row]:
    """Every row of a file that must be sound. Raises DataError naming the first bad lines, or why the file cannot be
    read."""
    lines, bad = check_file(path, label_key, empty_ok=empty_ok)
    refuse(bad, len(lines))
    return [line.row for line in lines]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as JSONL: UTF-8, one object a line, equal bytes on every system."""
    with path.open("w", encoding="utf-8", newline="\n") as f:
        f.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def check_file(
    path: Path, label_key: str | None, *, empty_ok: bool = False
) -> tuple[list[NumberedRow], list[Rejected]]:
    """The sound rows and the bad lines of a JSONL file; blank lines are passed over. Raises DataError when there is no
    row at all."""
    good: list[NumberedRow] = []
    bad: list[Rejected] = []
    first_with: dict[str, int] = {}
    for number, text in _lines(path):
        row, reason = _parse(text, label_key)
        if reason is None and (before := first_with.setdefault(str(row.get("id", f"line-{number}")), number)) != number:
            reason = f"id {row['id']!r} is also on line {before}"
        if reason is None:
            good.append(NumberedRow(number, row))
        else:
            bad.append(Rejected(path.name, number, reason))
    if not good and not bad and not empty_ok:
        raise DataError(
            f"data file {path}",
            "empty",
            "chat JSONL, one row a line",
            "write rows into it, or point data.raw elsewhere",
        )
    return good, bad


def refuse(bad: Sequence[Rejected], good: int, listed_in: Path | None = None) -> None:
    """Raise DataError when any line is bad: training time is never spent on data that nobody looked at."""
    if not bad:
        return
    shown = "".join(f"\n  {line}" for line in bad[:SHOWN])
    more = f"\n  and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    listed = f" (all are listed in {listed_in})" if listed_in else ""
    raise DataError(
        "data",
        f"{len(bad)} bad of {len(bad) + good} rows:{shown}{more}\n",
        "every row sound",
        f"correct or delete these lines{listed}",
    )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8-sig") as f:
            for number, text in enumerate(f, start=1):
                if text.strip():
                    yield number, text
    except FileNotFoundError as err:
        raise DataError(
            "data file", path, "an existing JSONL file", "run `dvc repro`, or point data.raw at your file"
        ) from err
    except UnicodeDecodeError as err:
        raise DataError(
            f"data file {path}", f"byte {err.start} is not UTF-8", "UTF-8 text", "save the file as UTF-8"
        ) from err
    except OSError as err:
        raise DataError(
            f"data file {path}", err.strerror, "a readable file", "check the path and its permissions"
        ) from err


def _parse(text: str, label_key: str | None) -> tuple[Row, str | None]:
    try:
        row = json.loads(text, parse_constant=partial(_no_constant, "row"))
    except ValueError as err:
        return {}, f"not JSON: {err}"
    except RecursionError:
        return {}, "not JSON: nested too deep"
    if not isinstance(row, dict):
        return {}, f"a JSON {type(row).__name__}, expected an object"
    return row, problem(row, label_key)


def _no_constant(where: str, name: str) -> None:
    raise ValueError(f"{name} in a {where} is no JSON number")


def problem(row: Row, label_key: str | None) -> str | None:
    """What is wrong with a row, or None."""
    if unknown := sorted(set(row) - KEYS):
        return f"unknown key {unknown[0]!r}, expected {', '.join(sorted(KEYS))}"
    for key in ("id", "label", "template"):
        if key in row and not (isinstance(row[key], str) and row[key].strip()):
            return f"{key} is {row[key]!r}, expected text"
    return _messages_problem(row.get("messages")) or _label_problem(row, label_key)


def _messages_problem(messages: Any) -> str | None:
    if not isinstance(messages, list) or not messages:
        return "messages is missing or no list" if not isinstance(messages, list) else "messages is empty"
    last: str | None = None
    for i, message in enumerate(messages):
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            return f"messages[{i}] is not {{role, content}}"
        role, content = message["role"], message["content"]
        if role not in ("system", "user", "assistant"):
            return f"messages[{i}].role is {role!r}, expected system, user or assistant"
        if role not in NEXT_ROLES[last]:
            return f"messages[{i}].role {role} cannot follow {last or 'the start'}"
        if not isinstance(content, str) or not content.strip():
            return f"messages[{i}].content is {content!r}, expected text"
        last = role
    return None if last == "assistant" else f"the last message is the {last}'s, expected the assistant's"


def _label_problem(row: Row, label_key: str | None) -> str | None:
    if label_key is None:
        return None
    answer = answer_json(row)
    if answer is None:
        return f"the assistant's content is no JSON object, expected one with the key {label_key!r}"
    label = answer.get(label_key)
    if not isinstance(label, str) or not label:
        return (
            f"the assistant's JSON has {label_key}={label!r}, expected text"
            if label_key in answer
            else f"the assistant's JSON lacks {label_key!r}"
        )
    if row.get("label", label) != label:
        return f"label is {row['label']!r} but the assistant's JSON says {label!r}"
    return None


def answer_json(row: Row) -> dict[str, Any] | None:
    """The assistant's last content as an object; None when it is anything else."""
    try:
        doc = json.loads(row["messages"][-1]["content"], parse_constant=partial(_no_constant, "answer"))
    except (ValueError, RecursionError):
        return None
    return doc if isinstance(doc, dict) else None


def answer_key(row: Row) -> str:
    """One spelling per answer: canonical JSON for objects, else the text itself."""
    doc = answer_json(row)
    return row["messages"][-1]["content"].strip() if doc is None else canonical(doc).decode()


def prompt(row: Row) -> str:
    """The messages before the answer, joined by newlines, the system prompt left out."""
    return "\n".join(m["content"] for m in row["messages"][:-1] if m["role"] != "system")


def words(text: str) -> list[str]:
    """Lower-case words and numbers; punctuation and spacing do not count, unless there is nothing else."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return re.findall(r"\w+", folded) or folded.split()


def normalised(row: Row) -> str:
    """The prompt's words, joined by single spaces: what two rows of the same text share."""
    return " ".join(words(prompt(row)))

"""Chat rows: `{"id", "messages", "label", "template"}` and `"tools"` where a row has some, one JSON object a line.

`messages` has the form of `slipway.data.messages`; its last message is the assistant's. `tools` is the list of tool
schemas that the chat template is given. `label` names the class that splits are balanced by; with a `label_key` it is
that key of the assistant's JSON. `template` is the unit held out for the test set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.data import strict_json
from slipway.data.messages import calls_of, messages_problem, tools_problem
from slipway.data.strict_json import shown
from slipway.errors import DataError
from slipway.system.files import canonical

Row = dict[str, Any]
KEYS = {"id", "messages", "label", "template", "tools"}
SHOWN = 10
REASON_CHARS = 300


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
        cut = self.reason if len(self.reason) <= REASON_CHARS else f"{self.reason[:REASON_CHARS]}..."
        return f"{self.file}:{self.line}: {cut}"


def read_rows(path: Path, label_key: str | None = None, *, empty_ok: bool = False) -> list[Row]:
    """Every row of a file that must be sound. Raises DataError naming the first bad lines, or why the file cannot be
    read."""
    lines, bad = check_file(path, label_key, empty_ok=empty_ok)
    refuse(bad, len(lines))
    return [line.row for line in lines]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as JSONL: UTF-8, one object a line, equal bytes on every system."""
    with path.open("wb") as f:
        f.writelines(strict_json.encode(row) + b"\n" for row in rows)


def check_file(
    path: Path, label_key: str | None, *, empty_ok: bool = False
) -> tuple[list[NumberedRow], list[Rejected]]:
    """The sound rows and the bad lines of a JSONL file in the form above; blank lines are passed over. Raises DataError
    when there is no row at all."""
    good: list[NumberedRow] = []
    bad: list[Rejected] = []
    first_with: dict[str, int] = {}
    for number, text in _lines(path):
        row, reason = _parse(text, label_key)
        if reason is None and (before := first_with.setdefault(str(row.get("id", f"line-{number}")), number)) != number:
            reason = f"id {shown(row['id'])} is also on line {before}"
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


def checked_lines(path: Path, label_key: str | None) -> Iterator[NumberedRow]:
    """The rows of a file that must be sound, one by one. Raises DataError naming the first bad line, or why the file
    cannot be read."""
    for number, text in _lines(path):
        row, reason = _parse(text, label_key)
        if reason is not None:
            raise refusal([Rejected(path.name, number, reason)], 1, number - 1)
        yield NumberedRow(number, row)


def refuse(bad: Sequence[Rejected], good: int, listed_in: Path | None = None) -> None:
    """Raise DataError when any line is bad: training time is never spent on data that nobody looked at."""
    if bad:
        raise refusal(bad, len(bad), good, listed_in)


def refusal(first: Sequence[Rejected], bad: int, good: int, listed_in: Path | None = None) -> DataError:
    """The error for `bad` lines beside `good` ones, of bounded size: the first ten are shown."""
    listing = "".join(f"\n  {line}" for line in first[:SHOWN])
    more = f"\n  and {bad - SHOWN} more" if bad > SHOWN else ""
    listed = f" (all are listed in {listed_in})" if listed_in else ""
    return DataError(
        "data",
        f"{bad} bad of {bad + good} rows:{listing}{more}\n",
        "every row sound",
        f"correct or delete these lines{listed}",
    )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not blank. Lines end at LF only: U+2028 and NEL are text."""
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as f:
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
        row = strict_json.parse(text)
        strict_json.encode(row)
    except ValueError as err:
        return {}, str(err)
    if not isinstance(row, dict):
        return {}, f"a JSON {'null' if row is None else type(row).__name__}, expected an object"
    return row, problem(row, label_key)


def problem(row: Row, label_key: str | None) -> str | None:
    """What is wrong with a row in canonical form, or None."""
    if unknown := sorted(set(row) - KEYS):
        return f"unknown key {shown(unknown[0])}, expected {', '.join(sorted(KEYS))}"
    for key in ("id", "label", "template"):
        if key in row and not (isinstance(row[key], str) and row[key].strip()):
            return f"{key} is {shown(row[key])}, expected text"
    if "tools" in row and (bad := tools_problem(row["tools"])):
        return bad
    return messages_problem(row.get("messages")) or _label_problem(row, label_key)


def _label_problem(row: Row, label_key: str | None) -> str | None:
    if label_key is None:
        return None
    answer = answer_json(row)
    if answer is None:
        return f"the assistant's content is no JSON object{_why(row)}, expected one with the key {label_key!r}"
    label = answer.get(label_key)
    if not isinstance(label, str) or not label:
        return (
            f"the assistant's JSON has {label_key}={shown(label)}, expected text"
            if label_key in answer
            else f"the assistant's JSON lacks {label_key!r}"
        )
    if row.get("label", label) != label:
        return f"label is {shown(row['label'])} but the assistant's JSON says {shown(label)}"
    return None


def _why(row: Row) -> str:
    try:
        strict_json.encode(strict_json.parse(row["messages"][-1]["content"]))
    except ValueError as err:
        return f" ({err})"
    return ""


def answer_json(row: Row) -> dict[str, Any] | None:
    """The assistant's last content as an object; None when it is anything else, or one that could be read in two
    ways."""
    content = row["messages"][-1]["content"]
    if not content.lstrip().startswith("{"):  # most answers are prose: not worth an exception each
        return None
    try:
        doc = strict_json.parse(content)
        strict_json.encode(doc)
    except ValueError:
        return None
    return doc if isinstance(doc, dict) else None


def answer_key(row: Row) -> str:
    """One spelling per answer: canonical JSON for objects and for tool calls, else the text itself."""
    last, doc = row["messages"][-1], answer_json(row)
    text = last["content"].strip() if doc is None else canonical(doc).decode()
    calls = calls_of(last)
    return text if not calls else f"{text}\n{canonical(calls).decode()}"


def prompt(row: Row) -> str:
    """The messages before the answer, joined by newlines, the system prompt left out."""
    return "\n".join(m["content"] for m in row["messages"][:-1] if m["role"] != "system")

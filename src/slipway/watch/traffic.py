"""Captured prompts as a sample of requests, and the evaluation's rows as the sample that they are compared with.

What is compared is the last message of the user. An evaluation's rows are distinct and come in templates, captured
requests repeat themselves and come in conversations, so both are brought to one form: distinct texts, one of each
conversation, one of each template, redacted alike. What is left out is counted by reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from slipway.agent.canary.redaction import redact
from slipway.evaluation.metric import clusters_of
from slipway.watch.baseline import Baseline
from slipway.watch.replay import digest


@dataclass(frozen=True)
class Prompt:
    """One request: its messages and tools, its longest answer (tokens, None where it names none), and the text that is
    compared."""

    text: str
    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] = ()
    max_tokens: int | None = None


@dataclass(frozen=True)
class Traffic:
    """`prompts` that are compared, of `captured` records; `left_out`: how many others, by reason."""

    prompts: Sequence[Prompt]
    captured: int
    left_out: Mapping[str, int] = field(default_factory=dict)


def traffic_of(records: Iterable[Mapping[str, Any]], *, now: float, days: float, most: int, seed: str) -> Traffic:
    """The sample of captured records, `{"at", "request"}` each. A record of another shape is counted, not an error: the
    folder may hold what another version captured."""
    left_out: Counter[str] = Counter()
    since = datetime.fromtimestamp(now, UTC) - timedelta(days=days)
    conversations: dict[str, Prompt] = {}
    captured = 0
    for record in records:
        captured += 1
        reason, prompt = _prompt(record, since)
        if prompt is None:
            left_out[reason] += 1
            continue
        begin = text_of(next(one for one in prompt.messages if one.get("role") == "user"))
        left_out["of a conversation that is in the sample"] += begin in conversations
        conversations[begin] = prompt  # the newest one
    distinct = {prompt.text: prompt for prompt in conversations.values()}
    left_out["of a text that is in the sample"] += len(conversations) - len(distinct)
    chosen = sorted(distinct.values(), key=lambda prompt: digest(seed, prompt.text))[:most]
    left_out["above watch.prompts"] += len(distinct) - len(chosen)
    return Traffic(chosen, captured, {reason: count for reason, count in left_out.items() if count})


def evaluated_prompts(baseline: Baseline, most: int, seed: str) -> list[tuple[str, str]]:
    """(text, answer then) of the evaluation's rows, one of each template, at most `most`. Rows without a user's text
    are left out, as captured ones are."""
    order = sorted(range(len(baseline.rows)), key=lambda at: digest(seed, str(baseline.rows[at]["id"])))
    templates: dict[str, tuple[str, str]] = {}
    for at in order:
        if text := _last_user_text(baseline.rows[at]["messages"][:-1]):
            templates.setdefault(clusters_of([baseline.items[at]])[0], (text, str(baseline.items[at]["answer"])))
    return list({redact(text)[0]: (redact(text)[0], answer) for text, answer in templates.values()}.values())[:most]


def _prompt(record: Mapping[str, Any], since: datetime) -> tuple[str, Prompt | None]:
    """The request of a record; or the reason why it is not compared."""
    request = record.get("request")
    if not isinstance(request, Mapping):
        return "no request in the record", None
    messages = request.get("messages")
    if not isinstance(messages, list) or not all(isinstance(one, Mapping) for one in messages):
        return "no chat", None
    at = _time(record.get("at"))
    if at is None:
        return "no time in the record", None
    if at < since:
        return "older than watch.days", None
    if not (text := _last_user_text(messages)):
        return "no text of a user", None
    most, tools = request.get("max_tokens"), request.get("tools")
    return "", Prompt(
        text,
        messages,
        [one for one in tools if isinstance(one, Mapping)] if isinstance(tools, list) else (),
        most if isinstance(most, int) and most > 0 else None,
    )


def _time(value: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _last_user_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """Empty where no user said anything."""
    return next((text for one in reversed(messages) if one.get("role") == "user" and (text := text_of(one))), "")


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message; of one in parts that of its text parts."""
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        content = "\n".join(part for part in parts if isinstance(part, str))
    return content.strip() if isinstance(content, str) else ""

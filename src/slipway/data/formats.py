"""Records as people have them -> rows: chat `messages`, ShareGPT, Alpaca, prompt and completion.

| format | columns | becomes |
|---|---|---|
| `chat` | `messages`: `{role, content, tool_calls}`, as OpenAI and TRL write them | the messages |
| `sharegpt` | `conversations`: `{from, value}`; `system`, `tools` | human: user, gpt: assistant, function_call: call |
| `alpaca` | `instruction`, `input`, `output`; `system`, `history` | user: instruction, blank line, input |
| `pairs` | `prompt`, `completion`: texts, or lists of messages | user and assistant, or the messages joined |

`id`, `label`, `template` and `tools` are taken beside any of them; other columns are not used, and counted. A whole
number in place of text is taken as its digits. Raised as
ValueError with a reason: parts of content that are no text, arguments that are no JSON object, unknown roles.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slipway.data.messages import Message
from slipway.data.rows import Row
from slipway.data.strict_json import parse, shown

if TYPE_CHECKING:
    from slipway.config.data import Column

NEEDS = {
    "chat": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
    "pairs": ("prompt", "completion"),
}
USES = {
    "chat": {"messages"},
    "sharegpt": {"conversations", "system"},
    "alpaca": {"instruction", "input", "output", "system", "history"},
    "pairs": {"prompt", "completion", "system"},
}
BESIDE = {"id", "label", "template", "tools"}
COLUMNS = BESIDE.union(*USES.values())
ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "developer": "system",
    "observation": "tool",
    "tool_response": "tool",
    "function": "tool",
    "function_call": "assistant",
    "tool_call": "assistant",
}
CALL_ROLES = ("function_call", "tool_call")


def renamed(record: Mapping[str, Any], columns: Mapping[Column, str]) -> dict[str, Any]:
    """The record with the columns of `data.columns` (ours -> theirs) under our names."""
    if not columns:
        return dict(record)
    theirs = set(columns.values())
    rest = {name: value for name, value in record.items() if name not in theirs and name not in columns}
    return rest | {ours: record[name] for ours, name in columns.items() if name in record}


def detect(record: Mapping[str, Any]) -> str:
    """The format of a record by its columns. Raises ValueError when it is none."""
    for name, needs in NEEDS.items():
        if all(column in record for column in needs):
            return name
    if "chosen" in record and "rejected" in record:
        raise ValueError(
            "a preference pair (chosen, rejected), not a row to learn from "
            "(to learn the chosen answers: data.columns={completion: chosen})"
        )
    if list(record) == ["text"]:
        raise ValueError("text alone, without a prompt that it answers (split it into prompt and completion)")
    if held := next((name for name, value in record.items() if _records(value)), None):
        key = json.dumps(held)[:60]
        raise ValueError(f"one object with records under {shown(held, 40)} (`jq -c '.[{key}][]'` writes them as rows)")
    raise ValueError(
        f"columns {', '.join(shown(name, 40) for name in list(record)[:8]) or 'none'}: expected messages,"
        " conversations, instruction and output, or prompt and completion"
        " (name yours: data.columns={prompt: ..., completion: ...})"
    )


def _records(value: Any) -> bool:
    """Whether a value is a list of records that are no messages."""
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and not {"role", "from", "speaker"} & set(first)


def unused(record: Mapping[str, Any], name: str) -> set[str]:
    """The columns of a record of this format that nothing reads."""
    return set(record) - USES[name] - BESIDE


def to_row(record: Mapping[str, Any], name: str) -> Row:
    """A record of this format as a row, its messages not yet checked. Raises ValueError with the reason."""
    if missing := [column for column in NEEDS[name] if column not in record]:
        raise ValueError(f"{missing[0]} is missing (data.format={name})")
    convert = {"chat": _chat, "sharegpt": _sharegpt, "alpaca": _alpaca, "pairs": _pairs}[name]
    row: Row = {}
    for key in ("id", "label", "template"):
        if (value := record.get(key)) is not None:
            row[key] = str(value) if isinstance(value, int) else value
    row["messages"] = convert(record)
    if tools := _json(record.get("tools"), "tools"):
        row["tools"] = [_tool(tool) for tool in tools] if isinstance(tools, list) else tools
    return row


def _chat(record: Mapping[str, Any]) -> Any:
    return _messages(_json(record["messages"], "messages"))


def _sharegpt(record: Mapping[str, Any]) -> Any:
    return _with_system(record, _messages(_json(record["conversations"], "conversations"), "conversations"))


def _alpaca(record: Mapping[str, Any]) -> Any:
    asked = [_need_text(record, "instruction")]
    if record.get("input") not in (None, ""):
        asked.append(_need_text(record, "input"))
    history = _json(record.get("history"), "history") or []
    if not isinstance(history, list):
        raise ValueError(f"history is {shown(history)}, expected a list of pairs")
    turns = [text for pair in history for text in (pair if isinstance(pair, list) else [pair])]
    texts = [*turns, "\n\n".join(asked), _need_text(record, "output")]
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    return _with_system(record, messages)


def _pairs(record: Mapping[str, Any]) -> Any:
    prompt, completion = (_listed(record[name]) for name in ("prompt", "completion"))
    if isinstance(prompt, list) and isinstance(completion, list):
        return _with_system(record, [*_messages(prompt, "prompt"), *_messages(completion, "completion")])
    texts = (_need_text(record, "prompt"), _need_text(record, "completion"))
    return _with_system(
        record, [{"role": role, "content": text} for role, text in zip(("user", "assistant"), texts, strict=True)]
    )


def _listed(value: Any) -> Any:
    """A list of messages that a CSV cell holds as JSON; text that only looks like one stays text."""
    if isinstance(value, str) and value.startswith('[{"role"'):
        return parse(value)
    return value


def _with_system(record: Mapping[str, Any], messages: Any) -> Any:
    if record.get("system") and isinstance(messages, list):
        return [{"role": "system", "content": record["system"]}, *messages]
    return messages


def _need_text(record: Mapping[str, Any], name: str) -> str:
    value = record[name]
    if isinstance(value, int) and not isinstance(value, bool):  # a class's number, which CSV has as text too
        return str(value)
    if not isinstance(value, str):
        raise ValueError(f"{name} is {shown(value)}, expected text")
    return value


def _json(value: Any, name: str) -> Any:
    """A value that a table holds as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return parse(value)
    except ValueError as err:
        raise ValueError(f"{name} is text that is no JSON ({err})") from err


def _messages(values: Any, name: str = "messages") -> Any:
    if not isinstance(values, list):
        raise ValueError(f"{name} is missing or no list")
    return [_message(value, f"{name}[{i}]") for i, value in enumerate(values)]


def _message(value: Any, place: str) -> Message:
    if not isinstance(value, dict):
        raise ValueError(f"{place} is not {{role, content}}")
    role = value.get("role", value.get("from"))
    content = value.get("content", value.get("value"))
    taken = ("role", "from", "content", "value", "tool_calls", "function_call")
    rest = {key: one for key, one in value.items() if key not in taken and one not in (None, [], {})}
    calls = value.get("tool_calls") or ([value["function_call"]] if value.get("function_call") else [])
    if role in CALL_ROLES:
        given = _json(content, place)
        calls, content = given if isinstance(given, list) else [given], None
    message: Message = {"role": ROLES.get(role, role) if isinstance(role, str) else role}
    message["content"] = _content(content, place, empty=bool(calls))
    if calls:
        message["tool_calls"] = _calls(calls, place)
    return {**message, **rest}


def _content(content: Any, place: str, *, empty: bool) -> Any:
    if content is None and empty:
        return ""
    if not isinstance(content, list):
        return content
    texts = []
    for i, part in enumerate(content):
        kind = part.get("type", "text") if isinstance(part, dict) else None
        if isinstance(part, str):
            texts.append(part)
        elif kind in ("text", "input_text", "output_text") and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            raise ValueError(f"{place}.content[{i}] is a part of type {shown(kind)}, only text is taken (drop the row)")
    return "".join(texts)


def _calls(calls: Any, place: str) -> Any:
    if not isinstance(calls, list):
        return calls
    return [_call(call, f"{place}.tool_calls[{i}]") for i, call in enumerate(calls)]


def _call(call: Any, place: str) -> Any:
    """A call in OpenAI's form, from that form or from `{name, arguments}`; arguments as an object."""
    if not isinstance(call, dict):
        return call
    function = call.get("function", {key: call[key] for key in ("name", "arguments") if key in call})
    if not isinstance(function, dict):
        return call
    arguments = function.get("arguments")
    function = {**function, "arguments": {} if arguments in (None, "") else _json(arguments, f"{place}.arguments")}
    rest = {key: one for key, one in call.items() if key not in ("name", "arguments", "function") and one is not None}
    return {"type": "function", **rest, "function": function}


def _tool(tool: Any) -> Any:
    """A tool's schema in OpenAI's form, from that form or from the function alone."""
    if isinstance(tool, dict) and "function" not in tool and "name" in tool:
        return {"type": "function", "function": tool}
    return tool

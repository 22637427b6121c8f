"""The messages of a row: the form that every stage after prepare reads, and what is wrong with others.

    {"role": "system" | "user", "content": text}
    {"role": "assistant", "content": text}
    {"role": "assistant", "content": text or "", "tool_calls": [call, ...]}
    {"role": "tool", "content": text or "", "name": text, "tool_call_id": text}

A call is `{"type": "function", "function": {"name", "arguments"}}`. `content` is always text and `arguments` always an
object, as chat templates take them. `id` of a call, `name` and `tool_call_id` of a tool's message are optional. A
system message comes first or not at all; a user's turn is followed by the assistant's; calls are followed by their
results, then by the assistant again. The last message is the assistant's: text, calls, or both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slipway.data.strict_json import depth_problem, shown

Message = dict[str, Any]
CALLS = "assistant's call"
# White space, and what takes no room: soft hyphen, joiners and non-joiners, marks of direction, byte order mark
_UNSEEN = (
    "".join(
        chr(code)
        for begin, end in ((0, 0x21), (0x7F, 0xA1), (0xAD, 0xAE), (0x2000, 0x2010), (0x2028, 0x2030), (0x205F, 0x2065))
        for code in range(begin, end)
    )
    + "\u1680\u3000\ufeff"
)
NEXT_ROLES: Mapping[str | None, frozenset[str]] = {
    None: frozenset({"system", "user"}),
    "system": frozenset({"user"}),
    "user": frozenset({"assistant"}),
    "assistant": frozenset({"user"}),
    CALLS: frozenset({"tool"}),
    "tool": frozenset({"tool", "assistant"}),
}
KEYS = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls"},
    "tool": {"role", "content", "name", "tool_call_id"},
}


def messages_problem(messages: Any) -> str | None:
    """What is wrong with a row's messages, or None."""
    if not isinstance(messages, list) or not messages:
        return "messages is missing or no list" if not isinstance(messages, list) else "messages is empty"
    last: str | None = None
    for i, message in enumerate(messages):
        if problem := _message_problem(message, last):
            return f"messages[{i}]{problem}"
        last = CALLS if message.get("tool_calls") else message["role"]
    if last in ("assistant", CALLS):
        return None
    return f"the last message is the {last}'s, expected the assistant's (cut the row after its last answer)"


def _message_problem(message: Any, last: str | None) -> str | None:
    if not isinstance(message, dict) or "role" not in message or "content" not in message:
        return " is not {role, content}"
    role, content = message["role"], message["content"]
    if not isinstance(role, str) or role not in KEYS:
        return f".role is {shown(role)}, expected system, user, assistant or tool"
    if role not in NEXT_ROLES[last]:
        way_out = " (join both, or delete one)" if role == last else ""
        return f".role {role} cannot follow {last or 'the start'}{way_out}"
    if unknown := sorted(set(message) - KEYS[role]):
        return f" has the key {shown(unknown[0])}, which a message of role {role} cannot carry (remove it)"
    if not isinstance(content, str):
        return f".content is {shown(content)}, expected text"
    if not content.strip(_UNSEEN) and role != "tool" and not message.get("tool_calls"):
        return f".content is {shown(content)}, expected text (cut the row before it, or drop the row)"
    for key in ("name", "tool_call_id"):
        if key in message and not isinstance(message[key], str):
            return f".{key} is {shown(message[key])}, expected text"
    return _calls_problem(message["tool_calls"]) if "tool_calls" in message else None


def _calls_problem(calls: Any) -> str | None:
    if not isinstance(calls, list) or not calls:
        return f".tool_calls is {shown(calls)}, expected a list of calls"
    for i, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
            return f".tool_calls[{i}] is no {{type, function: {{name, arguments}}}}"
        if unknown := sorted((set(call) - {"id", "type", "function"}) | (set(function) - {"name", "arguments"})):
            return f".tool_calls[{i}] has the unknown key {shown(unknown[0])}"
        if call.get("type", "function") != "function" or not isinstance(call.get("id", ""), str):
            given = f"type {shown(call.get('type'))}, id {shown(call.get('id'))}"
            return f".tool_calls[{i}] has {given}, expected type function and an id of text"
        if not isinstance(function.get("arguments"), dict):
            return f".tool_calls[{i}].function.arguments is {shown(function.get('arguments'))}, expected an object"
        if deep := depth_problem(function["arguments"]):
            return f".tool_calls[{i}].function.arguments is {deep}"
    return None


def tools_problem(tools: Any) -> str | None:
    """What is wrong with a row's tools (a list of `{"type": "function", "function": {"name", ...}}`), or None."""
    if not isinstance(tools, list) or not tools:
        return f"tools is {shown(tools)}, expected a list of tools"
    for i, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
            return f"tools[{i}] is no {{type: function, function: {{name, parameters}}}}"
        if deep := depth_problem(function):
            return f"tools[{i}] is {deep}"
    return None


def calls_of(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Name and arguments of each call of a message, in their order."""
    return [call["function"] for call in message.get("tool_calls", ())]


def written(message: Mapping[str, Any]) -> str:
    """All that an assistant has to write in a message: its text and its calls, without what a template adds."""
    calls = "".join(f"{call['name']}{call['arguments']}" for call in calls_of(message))
    return f"{message.get('content') or ''}{calls}"

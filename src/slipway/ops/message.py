"""What people are told: one message for each event, with what happened, about what, and the next step."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slipway.config.notify import Kind
from slipway.deployment.decision.record import Decision
from slipway.system.files import disk_full_is_named, write_atomic
from slipway.system.locks import locked
from slipway.system.redact import mask

SENT_FILE = "notified.json"
MOST_SENT = 1000
LONGEST = 1500  # characters of a message
_LOCK_S = 60.0


@dataclass(frozen=True)
class Message:
    """`event`: what it is about, by which a second message is known; `subject` one line, `text` some, `next_step` a
    command or a page."""

    kind: Kind
    event: str
    subject: str
    text: str
    next_step: str

    @property
    def body(self) -> str:
        """The text and the next step, of bounded length, without secrets."""
        text = self.text if len(self.text) <= LONGEST else f"{self.text[:LONGEST]}..."
        return mask(f"{text}\nNext: {self.next_step}")


def decided(decision: Decision, page: str) -> Message:
    """The gate's outcome on a candidate and what follows from it. `page`: where the run is shown, or empty."""
    kind: Kind = {"pass": "pass", "fail": "fail"}.get(decision.gate.outcome, "inconclusive")  # type: ignore[assignment]
    verdict = decision.gate.verdict[:12]
    steps = {
        "pass": f"`slipway explain`; `slipway rollback {decision.target}` brings back what served before",
        "fail": "`slipway explain` shows the rules; what serves is untouched",
        "inconclusive": f"answer on {page or 'the page of the run'}, or `slipway promote {verdict} --approve REASON`",
    }
    step = steps["inconclusive"] if decision.ruling.action == "ask" and decision.approval is None else steps[kind]
    open_rules = [rule for rule in decision.gate.rules if rule.get("outcome") not in ("pass", None)]
    reasons = [f"- {rule.get('reason', '')}" for rule in open_rules]
    follows = {"replace": "replaces what serves", "keep": "what serves stays", "ask": "waits for a person"}
    return Message(
        kind,
        f"{kind} {decision.gate.verdict} {decision.target} {decision.ruling.action}",
        f"{decision.line}: gate {decision.gate.outcome}; {decision.target}: {follows[decision.ruling.action]}",
        "\n".join([decision.ruling.reason, *reasons, *([page] if page else [])]),
        step,
    )


def rolled_back(target: str, release: str, time: str) -> Message:
    """A release serves again in the place of a later one."""
    step = f"`slipway history` says what changed; `slipway promote VERDICT --to {target}` brings a version back"
    return Message("rollback", f"rollback {target} {release} {time}", f"{target}: {release} serves again", time, step)


def drifted(target: str, release: str, bounds: str, step: str, time: str) -> Message:
    """What serves is no longer as its release was measured. `bounds`: which bound fell under which margin; `step`: what
    a person does about these; `time`: of the look."""
    return Message("drift", f"drift {target} {release} {time}", f"{target}: {release} drifted", bounds, step)


def stuck(name: str, run_id: str, state: str, text: str, page: str) -> Message:
    """A run that ended without a word of its own: crashed, or over its time."""
    step = f"{page or '`slipway status`'}; run again: finished stages are reused, training goes on from its checkpoint"
    return Message("stuck", f"stuck {run_id} {state}", f"run {name} got stuck: {state}", text, step)


@contextmanager
def once(store: Path, message: Message) -> Iterator[Callable[[], None] | None]:
    """Whether this message was sent before: None, or what records it when it has been. Other senders wait."""
    file = store / SENT_FILE
    with disk_full_is_named(file), locked(file.with_name(f"{SENT_FILE}.lock"), _LOCK_S, "a message"):
        sent = _sent(file)

        def record() -> None:
            write_atomic(file, json.dumps([*sent, message.event][-MOST_SENT:], indent=1) + "\n")

        yield None if message.event in sent else record


def was_sent(store: Path, message: Message) -> bool:
    """Whether a message of this event was sent, by whomever."""
    return message.event in _sent(store / SENT_FILE)


def _sent(file: Path) -> list[str]:
    """Events that were told of, the last ones; a damaged record counts as none: a message twice is better than none."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    return [str(one) for one in document] if isinstance(document, list) else []

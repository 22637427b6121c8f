"""The record of a decision: what was asked, by whom, what the gate and the rules said, who approved; part of a release.

`decision.json` holds no weights and no prompts. Its sha256 stands in the release's digests as `decision`; a signature
over the release covers it. Earlier releases have none. `schema` is raised when a reader of today would read a record of
tomorrow wrongly; such a record is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from slipway.agent.records import utc_now
from slipway.deployment.decision.policy import Action, Asked, Incumbent, Ruling
from slipway.errors import StateError
from slipway.store.artifacts import Verdict
from slipway.system.files import sha256_bytes
from slipway.system.json_files import as_model

FILE = "decision.json"


class _Part(BaseModel):
    """A part of the record: never changed once made; what a later version adds is kept."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Approval(_Part):
    """A person's answer: whether, who, why, when (UTC), and where it was given."""

    approved: bool
    by: str = Field(min_length=1, max_length=200)
    reason: str = Field(min_length=1, max_length=2000)
    time: str
    given: Literal["prefect", "command"]


class Gate(_Part):
    """What the gate said: digest of its verdict, outcome, and its rules as the verdict has them."""

    verdict: str
    outcome: str
    rules: list[dict[str, Any]] = []
    skipped: list[str] = []


class Champion(_Part):
    """What served when it was decided."""

    release: str
    line: str
    engine: str
    chosen_by: str | None


class Ruled(_Part):
    """Which rule of who-may-replace-what decided."""

    policy: str
    action: Action
    rule: str
    reason: str
    holds: list[str] = []


class Decision(_Part):
    """All that a promotion was decided on. `inputs`: one sha256 per kind of artifact; `routing`: rules that chose the
    target, where it was chosen."""

    format: Literal[1] = Field(1, alias="schema")
    time: str
    target: str
    line: str
    engine: str
    asked: Asked
    champion: Champion | None
    inputs: dict[str, str]
    gate: Gate
    ruling: Ruled
    approval: Approval | None = None
    routing: dict[str, Any] | None = None

    @property
    def promotes(self) -> bool:
        """Whether the candidate goes to the target."""
        return self.ruling.action == "replace" or (
            self.ruling.action == "ask" and self.approval is not None and self.approval.approved
        )

    def document(self) -> dict[str, Any]:
        """The record as plain values."""
        return self.model_dump(mode="json", by_alias=True)

    def text(self) -> str:
        """The record as JSON text."""
        return self.model_dump_json(by_alias=True, indent=1) + "\n"

    @property
    def digest(self) -> str:
        """sha256 of the record's bytes as 64 hex digits."""
        return sha256_bytes(self.text().encode())


def decision(
    ruled: Ruling,
    serving: Incumbent | None,
    verdict: Verdict,
    inputs: Mapping[str, str],
    *,
    target: str,
    line: str,
    policy: str,
    asked: Asked,
    holds: list[str],
    routing: Mapping[str, Any] | None = None,
) -> Decision:
    """The record of a ruling, before anybody approved. `inputs`: kind -> digest, of the engine too."""
    judged = verdict.read_json("verdict.json")
    return Decision(
        time=utc_now(),
        target=target,
        line=line,
        engine=inputs["engine"],
        asked=asked,
        champion=serving
        and Champion(release=serving.release, line=serving.line, engine=serving.engine, chosen_by=serving.chosen_by),
        inputs=dict(inputs),
        gate=Gate(
            verdict=verdict.digest,
            outcome=str(judged["outcome"]),
            rules=judged.get("rules", []),
            skipped=judged.get("skipped", []),
        ),
        ruling=Ruled(policy=policy, action=ruled.action, rule=ruled.rule, reason=ruled.reason, holds=holds),
        routing=dict(routing) if routing else None,
    )


def parse_decision(text: str, thing: str) -> Decision:
    """The decision in a text. Raises StateError, naming `thing` and the first field, for a record that is not
    understood."""
    mend = "put back a copy of it; the release serves without it"
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise StateError(thing, f"{type(err).__name__}: {text[:200]!r}", "a JSON object", mend) from err
    return as_model(Decision, document, thing, mend)

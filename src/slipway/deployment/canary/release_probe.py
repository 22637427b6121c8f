"""The probe of a release: its recorded answers out of the store or off the target, and the asking before the switch.

`candidate_probe` asks and judges; this knows where rows and rounding come from. A release of before answers were
recorded has none: then the smoke requests were all that was asked, which is noted and written into its record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slipway.agent.engine_key import OPEN, EngineAccess
from slipway.config.probe import ProbeConfig
from slipway.deployment.canary.check_words import agreement_words
from slipway.store.artifacts import Engine, Verdict

if TYPE_CHECKING:
    from slipway.deployment.target import Note, TargetClient

DOCUMENT = "probe.jsonl"
NONE = "no answers of its evaluation to compare with: it kept none (evaluate.probe_items is 0, or an earlier version)"


@dataclass(frozen=True)
class ReleaseProbe:
    """`rows`: the text of `probe.jsonl`; `rounding`: nats by which kernels move a token, None where not measured."""

    rows: str
    rounding: float | None

    def document(self) -> dict[str, str]:
        """The file of the release."""
        return {DOCUMENT: self.rows}

    def record(self) -> dict[str, Any]:
        """What the release's record says of it."""
        return {"rows": self.rows.count("\n"), "rounding": self.rounding}


def probe_of(verdict: Verdict, engine: Engine) -> ReleaseProbe | None:
    """Of a candidate in the store; None where its evaluation recorded no answers."""
    from slipway.deployment.canary.candidate_probe import (  # httpx: a look at the state asks nothing
        recorded_of,
        rounding_in,
    )

    recorded = recorded_of(verdict)
    return ReleaseProbe(recorded[DOCUMENT], rounding_in(engine.path)) if DOCUMENT in recorded else None


def probe_on(target: TargetClient, release: str) -> ReleaseProbe | None:
    """Of a release that is on the target; None where it has no recorded answers. Raises StateError when its file is
    gone."""
    records = [record for record in target.call("status", {})["releases"] if record["name"] == release]
    recorded = records[0].get("recorded") if records else None
    if not recorded:
        return None
    text = target.call("document", {"release": release, "document": DOCUMENT})["text"]
    return ReleaseProbe(text, recorded.get("rounding"))


def asked_again(
    probe: ReleaseProbe | None,
    url: str,
    model: str,
    params: ProbeConfig,
    note: Note,
    agreement: Callable[[str], dict[str, Any]],
    access: EngineAccess = OPEN,
) -> dict[str, Any]:
    """Ask the engine at `url`, as `access` says, what was recorded, then judge its kernels (`agreement`, by its URL);
    the report as a document. Raises EngineError naming the test that failed, StateError for a damaged record."""
    if probe is None:
        note(NONE)
        verdict = agreement(url)
        note(f"kernel agreement: {agreement_words(verdict)}")
        return {"refused": NONE, "agreement": verdict}
    from slipway.deployment.canary.candidate_probe import probe_candidate
    from slipway.evaluation.recorded_answers import parse_rows

    report = probe_candidate(
        url,
        model,
        parse_rows(probe.rows, "recorded answers of the release"),
        rounding=probe.rounding,
        timeout_s=params.timeout_s,
        slowest=params.slowest,
        at_once=params.at_once,
        access=access,
        agreement=agreement,
        note=note,
    )
    return report.document()

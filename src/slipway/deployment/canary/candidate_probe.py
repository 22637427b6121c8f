"""A candidate asked at its target, before the switch: does it answer what the evaluated engine answered?

An engine that is healthy may still answer garbage, loop in long answers or compute something else than its weights
say. The release carries `probe.jsonl`, recorded when this very engine was evaluated; the same requests are sent to the
candidate, through whatever URL it is reached by, and the answers are tested (`evaluation.answer_drift`). Where the
caller has the weights, kernel agreement (ADR 43) is judged on top; the report says so where not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.agent.engine_key import OPEN, EngineAccess
from slipway.deployment.canary.check_words import agreement_words
from slipway.engines.probability_client import NoProbabilitiesError, ProbabilityClient, TokenAnswer
from slipway.errors import EngineError
from slipway.evaluation.answer_drift import Drift, judge_drift
from slipway.evaluation.recorded_answers import PROBE, Asked, RecordedRow, in_parallel
from slipway.store.artifacts import Verdict
from slipway.store.references import resolve

SLOWEST = 20.0  # times the recorded seconds a token; a champion may be busy on the same machine
AT_ONCE = 4
AGREEMENT = "agreement.json"
Note = Callable[[str], None]
CheckAgreement = Callable[[str], dict[str, Any]]
_CAUSES = {
    "empty": "its chat template or its end token is not the evaluated one's: compare the bundle's tokenizer files",
    "loops": "a fault that comes with length: look at the KV cache's format, rotary parameters and sliding window",
    "cut_off": "it does not end its answers: look at the end token, then at the KV cache",
    "unlikely_token": "it computes something else than the evaluated engine: another GPU, backend or tactic cache; "
    "evaluate it on this target",
    "log_probability": "its kernels compute something else: another backend, wrong scales or a stale cache; evaluate "
    "it on this target",
    "unequal": "it computes something else than the evaluated engine; evaluate it on this target",
    "slow": "another process holds the machine, or the engine fell back to other kernels: read its log",
}


@dataclass(frozen=True)
class ProbeReport:
    """What a candidate answered: the tests, and the verdict of kernel agreement or why it was not judged."""

    drift: Drift
    agreement: dict[str, Any]

    def sentence(self) -> str:
        """For a person."""
        unequal = next(test for test in self.drift.tests if test.name == "unequal")
        return (
            f"{self.drift.rows - int(unequal.value)} of {self.drift.rows} answers as evaluated "
            f"({self.drift.tokens} tokens compared); kernel agreement: {agreement_words(self.agreement)}"
        )

    def document(self) -> dict[str, Any]:
        """As JSON values, for the release's record."""
        return {**self.drift.document(), "agreement": self.agreement}


def probe_candidate(
    url: str,
    model: str,
    rows: Sequence[RecordedRow],
    *,
    rounding: float | None = None,
    timeout_s: float = 60.0,
    slowest: float | None = SLOWEST,
    at_once: int = AT_ONCE,
    access: EngineAccess = OPEN,
    agreement: CheckAgreement | None = None,
    note: Note = lambda _: None,
) -> ProbeReport:
    """Ask the engine `model` at `url` (".../v1") all `rows`, `at_once` at a time, and test the answers.

    `rounding`: see `rounding_in`; `slowest`: most times the recorded seconds a token, None to show them only;
    `access`: how the engine is asked; `agreement`: called with the URL where this machine has the weights, gives a
    verdict or under `refused` why there is none.

    Raises EngineError naming the test that failed first, with the worst example; and when the engine does not answer.
    """
    client = ProbabilityClient(url, model, timeout_s, access.key or None, access.context())
    answers = _answers(client, rows, at_once)
    drift = judge_drift(rows, answers, rounding=rounding, slowest=slowest)
    _require(drift)
    refused = {
        "refused": "no weights or no torch where the target is driven from; the evaluation's answers decided alone"
    }
    report = ProbeReport(drift, agreement(url) if agreement else refused)
    note(report.sentence())
    return report


def recorded_of(verdict: Verdict) -> dict[str, str]:
    """`probe.jsonl` and its text, of the evaluation that a verdict judged: a document for the release. Empty where that
    recorded none: it is of before there were any, or `evaluate.probe_items` is 0."""
    reference = verdict.manifest["provenance"]["inputs"]["candidate"]
    file = resolve(reference, verdict.path) / PROBE
    return {PROBE: file.read_text(encoding="utf-8")} if file.is_file() else {}


def rounding_in(bundle: Path) -> float | None:
    """Nats by which the kernels' rounding moves a token of this engine, from its `agreement.json`; None where that was
    not checked or cannot be read: then the evaluation's repeats say it."""
    try:
        value = json.loads((bundle / AGREEMENT).read_text(encoding="utf-8")).get("mean_rounding")
    except (OSError, ValueError, AttributeError):
        return None
    return float(value) if isinstance(value, int | float) and value > 0 else None


def _answers(client: ProbabilityClient, rows: Sequence[RecordedRow], at_once: int) -> list[TokenAnswer]:
    probabilities = rows[0].has_probabilities

    def answer(row: Asked) -> TokenAnswer:
        try:
            return row.ask(client, probabilities=probabilities)
        except NoProbabilitiesError as err:
            expected = "log-probabilities, which the evaluated engine gave"
            raise EngineError("probe of the candidate", err.value, expected, "start it with the same flags") from err
        except EngineError as err:
            raise EngineError(
                f"probe of the candidate, row {row.id}", f"{err.thing}: {err.value}", err.expected, err.next_step
            ) from err

    try:
        return in_parallel(answer, rows, at_once)
    finally:
        client.close()


def _require(drift: Drift) -> None:
    if not drift.failed:
        return
    first, *others = drift.failed
    beside = f"; also failed: {', '.join(test.name for test in others)}" if others else ""
    example = f"; {first.example}" if first.example else ""
    raise EngineError(
        f"probe of the candidate: {first.name}",
        f"{first.value:g} {first.meaning}{example}{beside}",
        f"at most {first.limit:g}",
        _CAUSES[first.name],
    )

"""A row of the preflight's table. Short because every module of this room makes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from slipway.errors import ResourceError, SlipwayError
from slipway.ops.doctor import Check, Status

HERE = "this machine"


@dataclass(frozen=True)
class Finding:
    """One check of one machine: `finding` is what was found there, `advice` what to do about it, empty when well.
    `fail` refuses a run, `warn` does not."""

    machine: str
    name: str
    status: Status
    finding: str
    advice: str = ""

    def to_json(self) -> dict[str, str]:
        """The row as JSON values; `found` is the finding, as `slipway doctor` calls it."""
        row = asdict(self)
        return {"found" if name == "finding" else name: str(value) for name, value in row.items()}


def of_check(machine: str, check: Check) -> Finding:
    """A check of `slipway doctor` as a row."""
    return Finding(machine, check.name, check.status, check.finding, check.advice)


def of_error(machine: str, name: str, error: SlipwayError, status: Status = "fail") -> Finding:
    """What was raised instead of an answer."""
    return Finding(machine, name, status, f"{error.thing}: {error.value}", f"{error.expected}: {error.next_step}")


def require_ready(findings: Iterable[Finding]) -> None:
    """Raise ResourceError that names every row which fails."""
    failed = [one for one in findings if one.status == "fail"]
    if not failed:
        return
    rows = "; ".join(f"{one.machine}: {one.name}: {one.finding}" for one in failed)
    advice = "; ".join(dict.fromkeys(one.advice for one in failed if one.advice))
    raise ResourceError(f"preflight, {len(failed)} of its checks", rows, "what the stages of this run need", advice)

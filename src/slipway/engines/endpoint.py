"""A server that answers: where it is asked, the job that it is, and what its log says of it."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.engines.driver import ServePlan
from slipway.errors import EngineError, EngineLostError, ResourceError
from slipway.runners.base import Job, Outcome, Runner, cancel_patiently
from slipway.system import http
from slipway.system.tunnel import Tunnel

TAIL_LINES = 12


@dataclass(frozen=True)
class Endpoint:
    """A running server. `host` and `port`: where this machine reaches it, the tunnel's end where there is one.
    `log_from`: where the output of this start begins in the job's log, bytes. `adopted`: an earlier process started it.
    """

    plan: ServePlan
    runner: Runner
    job: Job
    host: str
    port: int
    tunnel: Tunnel | None = None
    log_from: int = 0
    adopted: bool = False

    @property
    def url(self) -> str:
        """Base of the OpenAI-compatible API."""
        return f"{self.base}/v1"

    @property
    def base(self) -> str:
        """Base of the server's own paths: health, metrics."""
        return http.base_url(self.host, self.port)

    @property
    def model(self) -> str:
        """Model name that it answers to."""
        return self.plan.alias

    def ended(self) -> Outcome | None:
        """How the server ended; None while it runs. Brings its log up to date."""
        return self.runner.poll(self.job)

    def is_healthy(self, timeout_s: float = 5) -> bool:
        """It runs and its health path says ok: model loaded, ready for requests."""
        return http.is_healthy(f"{self.base}{self.plan.health}", timeout_s, direct=True) and self.ended() is None

    def check_alive(self) -> None:
        """Raises EngineError with the end of its log when the server has ended, ResourceError when its tunnel has."""
        if (outcome := self.ended()) is not None:
            kind = EngineLostError if outcome.from_outside else EngineError
            expected = "a server that keeps running"
            raise failed(self.job, f"died ({outcome.reason})", expected, self.log_from, kind)
        if self.tunnel and not self.tunnel.is_open:
            raise ResourceError(
                f"tunnel to {self.tunnel.host}", self.tunnel.message(), "an open link", "check the link, then run again"
            )

    def close(self) -> None:
        """Close the tunnel and leave the server: whoever starts the same one in the same folder adopts it."""
        if self.tunnel:
            self.tunnel.close()

    def stop(self) -> None:
        """SIGTERM, `plan.stop_s` seconds, SIGKILL; then the job is forgotten. Raises ResourceError when its machine
        cannot be reached: the server lives on, and is adopted by the next start."""
        try:
            cancel_patiently(self.runner, self.job)
            self.runner.forget(self.job)
        finally:
            self.close()


def failed(job: Job, state: str, expected: str, log_from: int, kind: type[EngineError] = EngineError) -> EngineError:
    """The error of a server that is not as expected, with the last lines of this start's output."""
    return kind(
        f"engine server {job.name}",
        f"{state}. Last log lines:\n{log_tail(job, log_from)}",
        expected,
        f"read {job.log}",
    )


def log_tail(job: Job, log_from: int = 0, lines: int = TAIL_LINES) -> str:
    """Last lines of a job's output from `log_from` bytes on; empty when there is none."""
    if not job.log.exists():
        return ""
    with job.log.open("rb") as log:
        size = log.seek(0, 2)
        log.seek(max(log_from if log_from <= size else 0, size - 64 * 1024))
        text = log.read().decode(errors="replace")
    return "\n".join(text.strip().splitlines()[-lines:])

"""What a target serves now, what a candidate has to beat, and what a crash left there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from slipway.config.deploy import DeployConfig
from slipway.deployment.best_release import best_beside
from slipway.deployment.releases import Release, Stopped
from slipway.deployment.target import Target, target_for
from slipway.store.artifacts import Engine

LOCK_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Status:
    """What a target serves. `url` is None while no engine runs; `healthy` was asked just now."""

    release: Release | None
    url: str | None
    healthy: bool
    previous: str | None
    releases: list[str]


def champion(params: DeployConfig) -> Release | None:
    """The release that the pointer names, running or not; None before the first promotion."""
    releases = target_for(params).releases
    name = releases.current()
    return releases.read(name) if name else None


def rival(engine: Engine, params: DeployConfig) -> Release | None:
    """The release that `engine` has to beat: the serving one, or, when that is this very engine, the one before it."""
    releases = target_for(params).releases
    served = [releases.read(name) for name in (releases.current(), releases.previous()) if name]
    return next((r for r in served if r.digests["engine"] != engine.digest), None)


def best_of_line(engine: Engine, line: str, params: DeployConfig) -> Release | None:
    """The best release of `line`, which candidate `engine` is held to beside its rival; None where the rival is it."""
    against = rival(engine, params)
    champion = against.digests["engine"] if against else None
    return best_beside(target_for(params).releases, line, engine.digest, champion)


def was_withdrawn(params: DeployConfig, engine: Engine) -> bool:
    """Whether somebody rolled back from this very engine; only a promotion by hand brings it back."""
    return engine.digest[:8] in target_for(params).releases.history.withdrawn()


def status(params: DeployConfig) -> Status:
    """What the target serves now. Raises StateError when a record of it cannot be read."""
    target = target_for(params)
    name = target.releases.current()
    server = target.server(name) if name else None
    return Status(
        release=target.releases.read(name) if name else None,
        url=server.url if server else None,
        healthy=target.healthy(name) if name else False,
        previous=target.releases.previous(),
        releases=target.releases.names(),
    )


def stop(
    params: DeployConfig, *, note: Callable[[Stopped], None] = lambda _: None, lock_timeout_s: float = LOCK_TIMEOUT_S
) -> list[Stopped]:
    """End every engine of the target, the serving one and leftovers; the pointer stays. What was ended, each told to
    `note` at once.

    Engines end first: a record that cannot be read raises StateError only after them.
    """
    target = target_for(params)
    stopped: list[Stopped] = []
    with target.releases.lock("stop", lock_timeout_s):
        for name in sorted({*target.releases.names(), *target.running()}):
            for engine in target.stop(name):
                stopped.append(engine)
                note(engine)
        tidy(target)
    return stopped


def tidy(target: Target) -> None:
    """Finish what a crash interrupted: one engine at most keeps running, the pointer's, and every release on disk has
    served."""
    releases = target.releases
    releases.reconcile()
    for name in releases.names():
        if name != releases.current() or target.server(name) is None:
            target.stop(name)
    releases.sweep()

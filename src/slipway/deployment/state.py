"""What a target serves now, what a candidate has to beat, and what a crash left there."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.config.deploy import DeployConfig
from slipway.deployment.choose import target_for
from slipway.deployment.releases import Release
from slipway.deployment.target import Target
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


def was_withdrawn(params: DeployConfig, engine: Engine) -> bool:
    """Whether somebody rolled back from this very engine; only a promotion by hand brings it back."""
    return engine.digest[:8] in target_for(params).releases.withdrawn()


def status(params: DeployConfig) -> Status:
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


@dataclass(frozen=True)
class Stopped:
    """An engine process that was ended: its release, its pid, and where it answered."""

    release: str
    pid: int
    url: str


def stop(params: DeployConfig, *, lock_timeout_s: float = LOCK_TIMEOUT_S) -> list[Stopped]:
    """End the serving engine and any leftover; the pointer stays. Returns what was ended, nothing when nothing ran."""
    target = target_for(params)
    with target.releases.lock("stop", lock_timeout_s):
        ended = tidy(target)
        name = target.releases.current()
        if name and (server := target.stop(name)):
            ended.append(Stopped(name, server.pid, server.url))
        return ended


def tidy(target: Target) -> list[Stopped]:
    """Finish what a crash interrupted: one engine at most keeps running, the pointer's, and every release on disk has served.

    Returns the engines that were ended.
    """
    releases = target.releases
    releases.reconcile()
    ended = []
    for name in releases.names():
        idle = name != releases.current() or target.server(name) is None
        if idle and (server := target.stop(name)):
            ended.append(Stopped(name, server.pid, server.url))
    releases.sweep()
    return ended

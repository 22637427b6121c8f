"""Promotion and rollback on a Kubernetes cluster: one transaction under a Lease, journalled in the cluster itself.

    begun -> started -> ready -> checked -> shifted N% ... -> switched -> recorded -> retired

Everything before `recorded` is undone by whoever comes next, everything from there on is finished. The cluster holds
lock, journal, history and what releases are made of; which release serves is what it routes to, and where somebody
deleted what routes, the last switch's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from slipway.agent.records import utc_now
from slipway.config.kubernetes import KubernetesConfig
from slipway.deployment.kubernetes.api import KubernetesAPI, Reply
from slipway.deployment.kubernetes.kserve_manifests import predictor, serving_runtime
from slipway.deployment.kubernetes.lease import TargetLease
from slipway.deployment.kubernetes.looks import KubernetesStatus
from slipway.deployment.kubernetes.manifests import config_map, release_objects
from slipway.deployment.kubernetes.pod import KubernetesRelease, Manifest, start_seconds
from slipway.deployment.kubernetes.record import Journal, KubernetesRecord, Rendered
from slipway.deployment.kubernetes.releases import KubernetesReleases
from slipway.deployment.kubernetes.rollout import require_hope, rollout_for
from slipway.deployment.kubernetes.unrecorded import remove_live
from slipway.errors import ConfigError, EngineError, StateError

POLL_S = 1.0
Ask = Callable[[str, Manifest | None], Reply]
Check = Callable[[Ask], None]
Note = Callable[[str], None]


def render(release: KubernetesRelease, params: KubernetesConfig) -> Rendered:
    """A release as it is applied. Raises ConfigError for a plan that cannot run on Kubernetes."""
    health = "/v1/health/ready" if params.nim else release.plan.health
    if params.flavor == "kserve":
        objects = [*config_map(release, params), serving_runtime(release, params)]
        return Rendered(release.name, tuple(objects), predictor(release, params), health, params.port)
    return Rendered(release.name, tuple(release_objects(release, params)), {}, health, params.port)


class KubernetesTarget:
    """One Service of one namespace, and the releases behind it."""

    def __init__(
        self,
        api: KubernetesAPI,
        params: KubernetesConfig,
        owner: str,
        note: Note = lambda _: None,
        poll_s: float = POLL_S,
    ) -> None:
        self._api, self._params, self.owner, self.note, self._poll_s = api, params, owner, note, poll_s
        self.lease = TargetLease(api, params)
        self.record = KubernetesRecord(api, params)
        self.rollout = rollout_for(api, params)
        self.releases = KubernetesReleases(api, params, self.record, self.rollout)

    @property
    def canary(self) -> list[int]:
        """Percent of the requests at each step."""
        return self._params.canary.percent

    def status(self) -> KubernetesStatus:
        """Look; takes no lock."""
        return self.releases.status(self.lease)

    def promote(self, release: KubernetesRelease, check: Check, wait_s: float = 300.0) -> None:
        """Start a release, check it, give it the requests step by step, let the one before go.

        `check` asks the candidate through the API server and raises when it is no good. Raises EngineError when a pod
        dies or does not answer in its time, ConfigError for what the cluster refuses, ResourceError when it is not
        reached or busy; then the champion serves as before.
        """
        with self.changing("promote", wait_s) as still_held:
            rendered = render(release, self._params)
            opened = self.begin("promote", release.name, still_held)
            opened.stage(rendered)
            limit_s = self._params.start_timeout_s + start_seconds(release)
            opened.run(lambda: check(lambda path, document: self.releases.ask(rendered, path, document)), limit_s)

    def rollback(self, name: str | None, check: Check, wait_s: float = 300.0) -> str:
        """Bring a release back that served before, by default the one before the serving one; its name. Raises as
        `promote`, and ConfigError where there is none."""
        with self.changing("rollback", wait_s) as still_held:
            opened = self.begin("rollback", name or self.releases.previous(), still_held)
            rendered = self.record.release(opened.journal.release)
            limit_s = 2 * self._params.start_timeout_s
            opened.run(lambda: check(lambda path, document: self.releases.ask(rendered, path, document)), limit_s)
        return opened.journal.release

    def begin(self, action: str, name: str, still_held: Callable[[], None]) -> KubernetesTransaction:
        """Open a transaction; the lease is held and what was left is in order. Raises ConfigError for the release that
        serves already."""
        serving = self.releases.serving()
        if serving == name:
            next_step = "name another release; `slipway status` lists them"
            raise ConfigError(f"release {name}", "it serves already", "another release", next_step)
        opened = KubernetesTransaction(self, Journal(action, name, serving or "", "begun"), still_held)
        opened.reached("begun")
        return opened

    def recover(self) -> None:
        """Finish or undo what an orchestrator that died has left; the lock must be held."""
        journal = self.record.journal()
        if journal is None:
            return
        if journal.step == "recorded":
            self.note(f"finishing {journal.action} of {journal.release}, which serves already")
            self.retire(journal)
            return
        self.note(f"undoing {journal.action} of {journal.release}, which ended at {journal.step}")
        self.undo(journal)

    def now(self) -> str:
        """The time, UTC, as records hold it."""
        return utc_now()

    def prune(self, keep: int, spare: Iterable[str] = (), *, dry_run: bool = False) -> list[str]:
        """Delete all but the newest `keep` releases, never the serving one, the one before or one of `spare`; names of
        the deleted, with `dry_run` of those that would be. A release whose record is damaged stays: it may be put
        back."""
        names = self.record.releases()
        damaged = [name for name in names if self.record.is_damaged(name)]
        retained = {self.releases.serving(), *self.releases.line()[-2:], *spare, *damaged}
        for name in reversed(names):
            if len(retained) < keep:
                retained.add(name)
        doomed = [name for name in names if name not in retained]
        for name in () if dry_run else doomed:
            self._delete(self.record.release(name))
        return doomed

    def _delete(self, release: Rendered) -> None:
        for document in release.objects:
            self._api.delete(document["kind"], document["metadata"]["name"])
        self.record.forget(release.name)

    @contextmanager
    def changing(self, action: str, wait_s: float, *, tolerant: bool = False) -> Iterator[Callable[[], None]]:
        """Hold the target for the time of the block, after what was left was put in order; yields a check that raises
        when the lock was lost. Raises StateError for a damaged journal; `tolerant`: that is noted, for what changes
        neither pointer nor history."""
        with self.lease.held(self.owner, action, wait_s) as still_held:
            try:
                self.recover()
            except StateError as err:
                if not tolerant:
                    raise
                self.note(f"what was left stays as it is: {err}")
            yield still_held

    def await_ready(self, candidate: Rendered, limit_s: float, still_held: Callable[[], None]) -> None:
        """Wait until its pods and its engine answer. Raises EngineError as soon as one died, or after `limit_s`."""
        deadline = time.monotonic() + limit_s
        while not (self.rollout.is_ready(candidate) and self.releases.answers(candidate)):
            still_held()
            require_hope(self._api, self._params, candidate.name)
            if time.monotonic() > deadline:
                next_step = "`kubectl describe pods` says what they wait for; raise deploy.kubernetes.start_timeout_s"
                thing = f"release {candidate.name} on Kubernetes"
                raise EngineError(thing, "not ready yet", f"ready within {limit_s:.0f} s", next_step)
            time.sleep(self._poll_s)

    def watch(self, candidate: Rendered, still_held: Callable[[], None]) -> None:
        """One step of the canary: the candidate's pods stay alive. Raises EngineError for one that died."""
        deadline = time.monotonic() + self._params.canary.step_s
        while time.monotonic() < deadline:
            still_held()
            require_hope(self._api, self._params, candidate.name, self._params.canary.failures)
            time.sleep(self._poll_s)

    def undo(self, journal: Journal) -> None:
        """All requests to the champion, the candidate's pods gone, nothing open."""
        champion = self.releases.applied(journal.champion) if journal.champion else None
        if journal.release in self.record.releases():  # else it was never staged
            candidate = self.record.release(journal.release)
            self.rollout.undo(candidate, champion)
            if journal.action == "promote":  # it never served: nothing of it stays
                self._delete(candidate)
        self.record.write_journal(None)

    def retire(self, journal: Journal) -> None:
        """Let the pods of the champion of before go, nothing is open any more."""
        if journal.champion and self.releases.is_recorded(journal.champion):
            self.rollout.retire(self.record.release(journal.champion))
        elif journal.champion:
            remove_live(self._api, self._params, journal.champion)
        self.record.write_journal(None)


class KubernetesTransaction:
    """One open change of a target; whoever opened it holds the lease."""

    def __init__(self, target: KubernetesTarget, journal: Journal, still_held: Callable[[], None]) -> None:
        self.journal, self._target, self._still_held = journal, target, still_held

    def run(self, check: Callable[[], None], limit_s: float) -> None:
        """Start, check, switch and commit; undone on any error. Raises as `KubernetesTarget.promote`."""
        try:
            self.start(limit_s)
            check()
            self.switch()
            self.commit()
        except BaseException:
            self.abort()
            raise

    def stage(
        self, rendered: Rendered, record: Mapping[str, Any] | None = None, texts: Mapping[str, str] | None = None
    ) -> None:
        """Keep what the release is made of, its record and texts."""
        self._target.record.keep(rendered, record, texts or {})

    def start(self, limit_s: float) -> None:
        """Start it beside the champion and wait until it answers."""
        self._target.record.mend(self.journal.release)
        candidate, champion = self._releases()
        self._target.rollout.beside(candidate, champion)
        self.reached("started")
        self._target.await_ready(candidate, limit_s, self._still_held)
        self.reached("ready")

    def switch(self) -> None:
        """Give it a share of the requests, step by step, then all."""
        candidate, champion = self._releases()
        self.reached("checked")
        for percent in self._target.canary if champion else ():
            if champion and self._target.rollout.shift(candidate, champion, percent):
                self.reached(f"shifted {percent}%")
                self._target.watch(candidate, self._still_held)
        self._target.rollout.finish(candidate)
        self.reached("switched")

    def commit(self) -> None:
        """Record the switch: there is no way back; then the champion's pods go."""
        self._target.record.record(self.journal, self._target.owner)
        self.journal = replace(self.journal, step="recorded")
        self._target.retire(self.journal)

    def abort(self) -> None:
        """Undo it before its record, finish it from there on. Raises ResourceError when the lock was lost: its next
        holder has done so."""
        self._still_held()
        if self.journal.step == "recorded":
            self._target.retire(self.journal)
        else:
            self._target.undo(self.journal)

    def reached(self, step: str) -> None:
        """Write down how far it came."""
        self._still_held()
        self.journal = replace(self.journal, step=step)
        self._target.record.write_journal(self.journal)
        self._target.note(step)

    def _releases(self) -> tuple[Rendered, Rendered | None]:
        record, champion = self._target.record, self.journal.champion
        return record.release(self.journal.release), self._target.releases.applied(champion) if champion else None

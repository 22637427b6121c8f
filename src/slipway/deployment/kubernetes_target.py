"""Promotion and rollback on a Kubernetes cluster: one transaction under a Lease, journalled in the cluster itself.

    begun -> started -> ready -> checked -> shifted N% ... -> switched -> recorded -> retired

Everything before `recorded` is undone by whoever comes next, everything from there on is finished. The cluster holds
lock, journal, history and what releases are made of; which release serves is what it routes to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from slipway.config.kubernetes import KubernetesConfig
from slipway.deployment.kserve_manifests import predictor, serving_runtime
from slipway.deployment.kubernetes_api import KubernetesAPI, Reply
from slipway.deployment.kubernetes_lease import TargetLease
from slipway.deployment.kubernetes_manifests import config_map, release_objects
from slipway.deployment.kubernetes_pod import KubernetesRelease, Manifest, start_seconds
from slipway.deployment.kubernetes_record import Journal, KubernetesRecord, Rendered, Switch
from slipway.deployment.kubernetes_rollout import require_hope, rollout_for
from slipway.errors import ConfigError, EngineError

POLL_S = 1.0
Ask = Callable[[str, Manifest | None], Reply]
Check = Callable[[Ask], None]
Note = Callable[[str], None]


@dataclass(frozen=True)
class KubernetesStatus:
    """What a target does now: the serving release, whether it answers, what can come back, who holds the lock."""

    serving: str | None
    healthy: bool
    releases: list[str]
    history: list[Switch]
    lock: dict[str, str] | None
    journal: Journal | None


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
        self._api, self._params, self._owner, self._note, self._poll_s = api, params, owner, note, poll_s
        self._lease = TargetLease(api, params)
        self._record = KubernetesRecord(api, params)
        self._rollout = rollout_for(api, params)

    def status(self) -> KubernetesStatus:
        """Look; takes no lock."""
        serving = self._rollout.serving()
        healthy = serving is not None and self._answers(self._record.release(serving))
        releases, history = self._record.releases(), self._record.history()
        return KubernetesStatus(serving, healthy, releases, history, self._lease.holder(), self._record.journal())

    def promote(self, release: KubernetesRelease, check: Check, wait_s: float = 300.0) -> None:
        """Start a release, check it, give it the requests step by step, let the one before go.

        `check` asks the candidate through the API server and raises when it is no good. Raises EngineError when a pod
        dies or does not answer in its time, ConfigError for what the cluster refuses, ResourceError when it is not
        reached or busy; then the champion serves as before.
        """
        rendered = render(release, self._params)
        with self._changing("promote", wait_s) as still_held:
            self._record.keep(rendered)
            limit_s = self._params.start_timeout_s + start_seconds(release)
            self._switch("promote", rendered, check, limit_s, still_held)

    def rollback(self, name: str | None, check: Check, wait_s: float = 300.0) -> str:
        """Bring a release back that served before, by default the one before the serving one; its name. Raises as
        `promote`, and ConfigError where there is none."""
        with self._changing("rollback", wait_s) as still_held:
            chosen = name or self._previous()
            rendered = self._record.release(chosen)
            self._switch("rollback", rendered, check, 2 * self._params.start_timeout_s, still_held)
        return chosen

    def recover(self) -> None:
        """Finish or undo what an orchestrator that died has left; the lock must be held."""
        journal = self._record.journal()
        if journal is None:
            return
        if journal.step == "recorded":
            self._note(f"finishing {journal.action} of {journal.release}, which serves already")
            self._retire(journal)
            return
        self._note(f"undoing {journal.action} of {journal.release}, which ended at {journal.step}")
        self._undo(journal)

    def prune(self, keep: int) -> list[str]:
        """Delete all but the newest `keep` releases, never the serving one or the one before; names of the deleted."""
        retained = {self._rollout.serving(), *self._line()[-2:]}
        names = self._record.releases()
        for name in reversed(names):
            if len(retained) < keep:
                retained.add(name)
        doomed = [name for name in names if name not in retained]
        for name in doomed:
            for document in self._record.release(name).objects:
                self._api.delete(document["kind"], document["metadata"]["name"])
            self._record.forget(name)
        return doomed

    @contextmanager
    def _changing(self, action: str, wait_s: float) -> Iterator[Callable[[], None]]:
        with self._lease.held(self._owner, action, wait_s) as still_held:
            self.recover()
            yield still_held

    def _switch(
        self, action: str, candidate: Rendered, check: Check, limit_s: float, still_held: Callable[[], None]
    ) -> None:
        serving = self._rollout.serving()
        if serving == candidate.name:
            next_step = "name another release; `slipway status` lists them"
            raise ConfigError(f"release {candidate.name}", "it serves already", "another release", next_step)
        champion = self._record.release(serving) if serving else None
        journal = Journal(action, candidate.name, serving or "", "begun")

        def reached(step: str) -> None:
            nonlocal journal
            still_held()
            journal = replace(journal, step=step)
            self._record.write_journal(journal)
            self._note(step)

        reached("begun")
        try:
            self._rollout.beside(candidate, champion)
            reached("started")
            self._await_ready(candidate, limit_s, still_held)
            reached("ready")
            check(lambda path, document: self._ask(candidate, path, document))
            reached("checked")
            for percent in self._params.canary.percent if champion else ():
                if champion and self._rollout.shift(candidate, champion, percent):
                    reached(f"shifted {percent}%")
                    self._watch(candidate, still_held)
            self._rollout.finish(candidate)
            reached("switched")
            self._record.record(journal, self._owner)
        except BaseException:
            still_held()  # whoever holds the lock now undoes this: two who write undo each other
            self._undo(journal)
            raise
        self._retire(journal)

    def _await_ready(self, candidate: Rendered, limit_s: float, still_held: Callable[[], None]) -> None:
        deadline = time.monotonic() + limit_s
        while not (self._rollout.is_ready(candidate) and self._answers(candidate)):
            still_held()
            require_hope(self._api, self._params, candidate.name)
            if time.monotonic() > deadline:
                next_step = "`kubectl describe pods` says what they wait for; raise deploy.kubernetes.start_timeout_s"
                thing = f"release {candidate.name} on Kubernetes"
                raise EngineError(thing, "not ready yet", f"ready within {limit_s:.0f} s", next_step)
            time.sleep(self._poll_s)

    def _watch(self, candidate: Rendered, still_held: Callable[[], None]) -> None:
        """One step of the canary: the candidate's pods stay alive and ready."""
        deadline = time.monotonic() + self._params.canary.step_s
        while time.monotonic() < deadline:
            still_held()
            require_hope(self._api, self._params, candidate.name, self._params.canary.failures)
            time.sleep(self._poll_s)

    def _undo(self, journal: Journal) -> None:
        champion = self._record.release(journal.champion) if journal.champion else None
        self._rollout.undo(self._record.release(journal.release), champion)
        self._record.write_journal(None)

    def _retire(self, journal: Journal) -> None:
        if journal.champion:
            self._rollout.retire(self._record.release(journal.champion))
        self._record.write_journal(None)

    def _answers(self, release: Rendered) -> bool:
        return self._ask(release, release.health, None).status == 200

    def _ask(self, release: Rendered, path: str, document: Manifest | None) -> Reply:
        return self._api.ask(self._rollout.service_name(release), release.port, path, document)

    def _line(self) -> list[str]:
        """The releases that led to the serving one, oldest first; a rollback leaves those after it."""
        line: list[str] = []
        for switch in self._record.history():
            if switch.action == "rollback" and switch.release in line:
                del line[line.index(switch.release) + 1 :]
            else:
                line.append(switch.release)
        return line

    def _previous(self) -> str:
        kept = self._record.releases()
        before = [name for name in self._line()[:-1] if name in kept]
        if not before:
            thing, next_step = f"rollback on {self._params.name}", "promote another release"
            raise ConfigError(thing, "nothing before the serving release is kept", "a release that served", next_step)
        return before[-1]

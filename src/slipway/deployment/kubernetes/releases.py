"""The releases of a target on Kubernetes: which serves, what is known of each, which can come back.

What was kept of them is the truth; where somebody deleted it, what the cluster still has of the serving one stands in.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

from slipway.config.kubernetes import KubernetesConfig
from slipway.deployment.kubernetes.api import KubernetesAPI, Reply
from slipway.deployment.kubernetes.lease import TargetLease
from slipway.deployment.kubernetes.looks import KubernetesStatus, look
from slipway.deployment.kubernetes.pod import Manifest
from slipway.deployment.kubernetes.record import KubernetesRecord, Rendered, line_of
from slipway.deployment.kubernetes.rollout import Rollout
from slipway.deployment.kubernetes.unrecorded import live_description, live_release
from slipway.errors import ConfigError, StateError


class KubernetesReleases:
    """Looks at the releases of one target; changes nothing."""

    def __init__(
        self, api: KubernetesAPI, params: KubernetesConfig, record: KubernetesRecord, rollout: Rollout
    ) -> None:
        self._api, self._params, self.record, self.rollout = api, params, record, rollout

    def serving(self) -> str | None:
        """The release that the cluster routes to; where nothing routes, the last switch's as long as it is kept. Raises
        StateError where that would be asked of a damaged history."""
        routed = self.rollout.serving()
        if routed:
            return routed
        line = self.line()
        return line[-1] if line and line[-1] in self.record.releases() else None

    def applied(self, name: str) -> Rendered:
        """A release as it was applied; of one that nothing is kept of what the cluster has (`unrecorded.py`). Raises
        StateError for a damaged one."""
        if self.is_recorded(name):
            return self.record.release(name)
        return live_release(self._api, self._params, name)

    def is_recorded(self, name: str) -> bool:
        """Whether anything is kept of a release."""
        return name in self.record.releases()

    def description(self, name: str) -> dict[str, Any]:
        """A release's record, of one that nothing is kept of what its objects say. Raises StateError for a damaged
        one."""
        if self.is_recorded(name):
            return self.record.description(name)
        return live_description(self._api, self._params, name)

    def status(self, lease: TargetLease) -> KubernetesStatus:
        """Look; takes no lock, and no damage to what is kept or applied ends it."""
        serving = None
        with suppress(StateError):  # a damaged history, which `look` names
            serving = self.serving()
        now = look(self.record, lease, serving)
        if serving is None:
            return now
        if serving not in now.releases:
            live = live_description(self._api, self._params, serving)
            now = replace(now, records={**now.records, serving: live})
        try:
            release = self.applied(serving)
        except StateError:  # named by `look`
            release = live_release(self._api, self._params, serving)
        missing = [*self.record.missing(serving), *self.rollout.missing(release)]
        return replace(now, healthy=self.answers(release), missing=missing)

    def answers(self, release: Rendered) -> bool:
        """Whether its engine says that it is ready."""
        return self.ask(release, release.health, None).status == 200

    def ask(self, release: Rendered, path: str, document: Manifest | None) -> Reply:
        """What this release alone answers, through the API server."""
        return self._api.ask(self.rollout.service_name(release), release.port, path, document)

    def line(self) -> list[str]:
        """The releases that led to the serving one, oldest first; a rollback leaves those after it. Raises StateError
        for a damaged history."""
        return line_of(self.record.history())

    def previous(self) -> str:
        """The release that a rollback goes to. Raises ConfigError where there is none."""
        kept = self.record.releases()
        before = [name for name in self.line()[:-1] if name in kept and not self.record.is_damaged(name)]
        if not before:
            thing, next_step = f"rollback on {self._params.name}", "promote another release"
            raise ConfigError(thing, "nothing before the serving release is kept", "a release that served", next_step)
        return before[-1]

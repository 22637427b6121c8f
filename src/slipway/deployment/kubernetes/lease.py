"""One change of a Kubernetes target at a time: a Lease, taken by its version, renewed while the change goes on.

    holderIdentity   who, and which try of theirs: a second one of the same person is another holder
    annotations      slipway.action: what is done
    renewTime        by the holder's clock, for a person

Clocks are never compared: a lease is free when its version has not changed for its duration, by the taker's clock.
"""

from __future__ import annotations

import datetime
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from slipway.config.kubernetes import KubernetesConfig
from slipway.deployment.kubernetes.api import ChangedError, KubernetesAPI
from slipway.errors import ResourceError, SlipwayError

POLL_S = 1.0
ACTION = "slipway.action"


class TargetLease:
    """The lock of one Kubernetes target."""

    def __init__(
        self, api: KubernetesAPI, params: KubernetesConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._api, self._name, self._seconds, self._clock = api, params.name, params.lease_s, clock
        self._lost = threading.Event()

    @contextmanager
    def held(self, owner: str, action: str, wait_s: float) -> Iterator[Callable[[], None]]:
        """Hold the lease for the time of the block; yields a check that raises ResourceError when it was lost.

        Raises ResourceError naming who holds it, what they do and since when, after `wait_s` seconds.
        """
        holder = f"{owner} {secrets.token_hex(4)}"
        self._take(holder, action, wait_s)
        self._lost.clear()
        done = threading.Event()
        renewer = threading.Thread(target=self._renew, args=(holder, done), daemon=True)
        renewer.start()
        try:
            yield self._check
        finally:
            done.set()
            renewer.join()
            with suppress(SlipwayError, ChangedError):  # it ends by itself
                self._write(self._read(), holder, "", release=True)

    def holder(self) -> dict[str, str] | None:
        """Who holds it, as it says itself: `owner`, `action`, `since`; null when nobody does."""
        lease = self._read()
        spec = lease.get("spec", {})
        if not spec.get("holderIdentity"):
            return None
        action = lease["metadata"].get("annotations", {}).get(ACTION, "")
        return {"owner": spec["holderIdentity"], "action": action, "since": str(spec.get("acquireTime", ""))}

    def _take(self, holder: str, action: str, wait_s: float) -> None:
        deadline = self._clock() + wait_s
        version, since = "", self._clock()
        while True:
            lease = self._read()
            spec, now = lease.get("spec", {}), self._clock()
            if lease["metadata"].get("resourceVersion", "") != version:
                version, since = lease["metadata"].get("resourceVersion", ""), now
            stood_still = now - since > float(spec.get("leaseDurationSeconds") or self._seconds)
            if not spec.get("holderIdentity") or stood_still:
                with suppress(ChangedError):
                    self._write(lease, holder, action)
                    return
            elif now >= deadline:
                raise self._busy(wait_s)
            time.sleep(min(POLL_S, self._seconds / 10))

    def _busy(self, wait_s: float) -> ResourceError:
        other = self.holder() or {"owner": "somebody", "action": "something", "since": "?"}
        value = f"{other['action']} by {other['owner']}, since {other['since']}"
        return ResourceError(
            f"target {self._name}",
            f"busy: {value}",
            f"to be free within {wait_s:.0f} s",
            "let that end, then run again",
        )

    def _renew(self, holder: str, done: threading.Event) -> None:
        last = self._clock()
        while not done.wait(self._seconds / 4):
            try:
                lease = self._read()
                if lease.get("spec", {}).get("holderIdentity") != holder:
                    self._lost.set()
                    return
                self._write(lease, holder, None)
                last = self._clock()
            except (SlipwayError, ChangedError):
                if self._clock() - last > self._seconds / 2:  # another may count it as free soon
                    self._lost.set()
                    return

    def _check(self) -> None:
        if self._lost.is_set():
            next_step = "run again: what was begun is resumed or undone"
            raise ResourceError(f"lock of target {self._name}", "lost", "held to the end", next_step)

    def _read(self) -> dict[str, Any]:
        """The Lease, or one that is to be made."""
        empty = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self._name}, "spec": {}}
        return self._api.get("Lease", self._name) or empty

    def _write(self, lease: dict[str, Any], holder: str, action: str | None, *, release: bool = False) -> None:
        """Write it with this holder. `action`: null to renew. Raises ChangedError."""
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {**lease.get("spec", {}), "renewTime": now}
        if release:
            if spec.get("holderIdentity") != holder:
                return
            spec = {}
        elif action is not None:
            spec |= {"holderIdentity": holder, "acquireTime": now, "leaseDurationSeconds": self._seconds}
            lease["metadata"]["annotations"] = {**lease["metadata"].get("annotations", {}), ACTION: action}
        self._api.replace({**lease, "spec": spec})

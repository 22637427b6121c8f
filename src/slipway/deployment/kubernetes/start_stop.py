"""Starting and stopping what a target on Kubernetes serves, without a switch: the lease is held."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from slipway.deployment.kubernetes.record import Rendered
from slipway.deployment.kubernetes.target import KubernetesTarget
from slipway.errors import StateError

SILENT_S = 60.0  # that pods which were told to end may go on answering


def start_again(target: KubernetesTarget, name: str, start_timeout_s: float, still_held: Callable[[], None]) -> bool:
    """Apply everything of the serving release again, what was deleted of it too; whether it did not answer, or was not
    whole, before.
    Raises StateError for one of which nobody can tell what was applied and which does not answer, EngineError for one
    that does not come up."""
    release = target.releases.applied(name)
    whole = not target.rollout.missing(release)
    answered = target.releases.answers(release) and whole  # pods of what was deleted answer to their end
    target.record.mend(name)
    target.rollout.resume(release)  # also where a pod that was told to end still answers
    if not answered:
        record = target.releases.description(name)
        target.await_ready(release, start_timeout_s + float(record.get("start_s", 0.0)), still_held)
    return not answered


def stop_all(target: KubernetesTarget) -> tuple[list[dict[str, Any]], StateError | None]:
    """End the pods of every release; a row for each that answered, and the error of the first whose pods stay because
    nobody can tell what was applied for it."""
    rows, damaged = [], None
    for name in sorted({*target.record.releases(), *filter(None, [target.rollout.serving()])}):
        try:
            release = target.releases.applied(name)
        except StateError as err:
            damaged = damaged or err
            continue
        answered = target.releases.answers(release)
        target.rollout.stop(release)
        if answered:
            rows.append({"release": name, "pid": 0, "url": target.rollout.service_name(release)})
            _await_silence(target, release)
    return rows, damaged


def _await_silence(target: KubernetesTarget, release: Rendered) -> None:
    """Return when a release that was told to end answers no more, or after `SILENT_S` seconds: whoever starts it again
    before would take its last answers for a server."""
    deadline = time.monotonic() + SILENT_S
    while target.releases.answers(release) and time.monotonic() < deadline:
        time.sleep(0.2)

"""An engine brought to a target that does not see this store: packed, signed, what is missing copied, taken in.

Every blob is known by its digest, so a copy that was cut goes on, a second release moves only what changed, and bytes
that changed on the way are noticed by the agent, which throws them away: they are sent once more, and only once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from slipway.agent.changes import LOCK_WAIT_S
from slipway.config.deploy import DeployConfig
from slipway.deployment.bundle.oci_layout import OciLayout
from slipway.deployment.bundle.release import BUNDLES, PackedRelease, architecture_of, pack
from slipway.deployment.bundle.signing import signer_for
from slipway.errors import BundleError, ConfigError
from slipway.store.artifacts import Engine

BLOBS = "blobs/sha256"
MOST_SKEW_S = 60.0  # between two clocks before it is said: records of a target carry its own time
Document = dict[str, Any]
Note = Callable[[str], None]


class Receiver(Protocol):
    """The far side of a delivery."""

    def call(self, verb: str, document: Document, note: Note = ...) -> Document:
        """The result of a verb of the agent."""

    def copy(self, blobs: Path, sizes: Mapping[str, int], note: Note = ...) -> int:
        """Bring blobs of a folder into `incoming/`; the bytes that are there then."""


def deliver(
    engine: Engine,
    params: DeployConfig,
    receiver: Receiver,
    now: float,
    note: Note,
    *,
    documents: Mapping[str, str] | None = None,
    model: str = "",
    wait_s: float = LOCK_WAIT_S,
) -> Document:
    """Bring an engine to the target; the digests by which `stage` finds it there. `now`: seconds since 1970.
    `documents`: what the bundle carries and its signatures cover beside it (card, verdict, evaluation, decision);
    `model`: the registered name; `wait_s`: seconds to wait for another that changes the target.

    Raises ConfigError, before anything is packed, for an engine of another architecture; BundleError for bytes that
    arrive damaged twice, and where the target trusts another signer; what packing and `Receiver.copy` raise.
    """
    architecture = architecture_of(engine)
    check_probe(receiver.call("probe", {}), architecture, params.target, now, note)
    store = engine.path.parents[1]
    layout = OciLayout(store / BUNDLES)
    packing = partial(
        pack,
        engine,
        documents or {},
        signer_for(params.signing, store),
        layout,
        name=engine.digest[:12],
        model=model or params.target,
        architecture=architecture,
        keep=params.keep_releases,
        note=note,
    )
    packed = packing()
    if damaged := layout.discard_damaged(_lacking(packed, receiver)):
        note(f"{len(damaged)} blobs of {layout.path} were damaged and are packed again")
        packed = packing()
    named = {
        "manifest": packed.bundle.digest,
        "signature": packed.signature,
        "files_signature": packed.files_signature,
    }
    _send(packed, receiver, note)
    try:
        receiver.call("receive", {**named, "wait_s": wait_s}, note)
    except BundleError as err:
        if not _lacking(packed, receiver):  # all bytes are as they were: something else is wrong with the bundle
            raise
        note(f"{err.thing}: {err.value}; sent once more")
        _send(packed, receiver, note)
        receiver.call("receive", {**named, "wait_s": wait_s}, note)
    return named


def check_probe(probe: Mapping[str, Any], architecture: str, target: str, now: float, note: Note) -> None:
    """Say how far the target's clock is off when that is more than a minute. Raises ConfigError for an engine of
    another architecture than the target's."""
    if probe["architecture"] != architecture:
        raise ConfigError(
            f"engine for target {target}",
            f"made for {architecture}",
            f"one for {probe['architecture']}, the architecture of the target",
            "run the stage `engine` for that machine (layers.serving), or promote to another target",
        )
    skew = float(probe["time"]) - now
    if abs(skew) > MOST_SKEW_S:
        note(f"the clock of {target} is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}: its records say so too")


def _lacking(packed: PackedRelease, receiver: Receiver) -> list[str]:
    """Digests of the release's blobs that the target has not."""
    return list(receiver.call("missing", {"digests": list(packed.blobs)})["missing"])


def _send(packed: PackedRelease, receiver: Receiver, note: Note) -> None:
    """Copy what the target lacks."""
    sizes = {digest: packed.blobs[digest] for digest in _lacking(packed, receiver)}
    total, share = sum(packed.blobs.values()), sum(sizes.values())
    note(f"{len(sizes)} of {len(packed.blobs)} blobs to send, {share / 1e9:.2f} of {total / 1e9:.2f} GB")
    if sizes:
        receiver.copy(packed.layout / BLOBS, sizes, note)

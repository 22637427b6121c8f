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
from slipway.config.target import TargetConfig
from slipway.deployment.bundle.oci_layout import OciLayout
from slipway.deployment.bundle.release import BUNDLES, PackedRelease, architecture_of, pack, ref_of, release_claim
from slipway.deployment.bundle.signing import signer_for
from slipway.deployment.bundle.target_fit import require_fit
from slipway.deployment.engine_row import source_row
from slipway.engines.bundle import read_plan
from slipway.errors import BundleError, ConfigError, ResourceError
from slipway.store.artifacts import Engine, SearchIndex

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
    index: SearchIndex | None = None,
    model: str = "",
    wait_s: float = LOCK_WAIT_S,
) -> Document:
    """Bring an engine to the target; the digests by which `stage` finds it there. `now`: seconds since 1970.
    `documents`: what the bundle carries and its signatures cover beside it (card, verdict, evaluation, decision);
    `index`: what the release is searched with; `model`: the registered name; `wait_s`: seconds to wait for another that
    changes the target.

    Raises ConfigError, before anything is packed, for an engine of another architecture, GPU or image, ResourceError
    for one that does not fit into the target's memory (`target_fit`); BundleError for bytes that
    arrive damaged twice, and where the target trusts another signer; what packing and `Receiver.copy` raise.
    """
    architecture = architecture_of(engine)
    plan = read_plan(engine.path, here=False)
    probe = receiver.call("probe", {"images": [plan.image] if plan.image else []})
    check_probe(probe, architecture, params.target, now, note)
    current = receiver.call("status", {})["current"]
    if current is None or current["digests"]["engine"] != engine.digest:  # what serves already fits
        require_fit(plan, source_row(engine, TargetConfig()), architecture, probe, params, note)
    store = engine.path.parents[1]
    layout = OciLayout(store / BUNDLES)
    packing = partial(
        pack,
        engine,
        documents or {},
        signer_for(params.signing, store),
        layout,
        name=ref_of(engine, index),
        model=model or params.target,
        architecture=architecture,
        index=index,
        keep=params.keep_releases,
        note=note,
    )
    packed = packing()
    if damaged := layout.discard_damaged(_lacking(packed, receiver)):
        note(f"{len(damaged)} blobs of {layout.path} were damaged and are packed again")
        release_claim(engine, packed)
        packed = packing()
    named = {
        "manifest": packed.bundle.digest,
        "signature": packed.signature,
        "files_signature": packed.files_signature,
    }
    try:
        _receipt(packed, {**named, "wait_s": wait_s}, receiver, note)
    finally:
        release_claim(engine, packed)
    return named


def _receipt(packed: PackedRelease, request: dict[str, Any], receiver: Receiver, note: Note) -> None:
    """Have the target take the release in, once more where bytes arrived damaged."""
    _send(packed, receiver, note)
    try:
        receiver.call("receive", request, note)
    except BundleError as err:
        if not _lacking(packed, receiver):  # all bytes are as they were: something else is wrong with the bundle
            raise
        note(f"{err.thing}: {err.value}; sent once more")
        _send(packed, receiver, note)
        receiver.call("receive", request, note)


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
    here = {digest: size for digest, size in sizes.items() if (packed.layout / BLOBS / digest).is_file()}
    if here:
        receiver.copy(packed.layout / BLOBS, here, note)
    if packed.elsewhere and len(here) < len(sizes):
        address, folder, _ = packed.elsewhere
        collected = receiver.call("collect", {"folder": folder, "digests": sorted(sizes.keys() - here.keys())}, note)
        if absent := collected["absent"]:
            raise ResourceError(
                f"{len(absent)} layers of the engine",
                f"in {folder} of {address}, which the target's agent cannot read ({collected['why']})",
                "a target on the machine that the stages ran on, and a login there that reads the folder",
                "mend its permissions; or bring the engine here: `slipway run` without remote.host",
            )
        note(
            f"{len(sizes) - len(here)} layers taken from {folder}, not over the link: {collected['bytes'] / 1e9:.2f} GB"
        )

"""What `pipeline/remote_machine.py` runs on the machine of `remote.host`: one request, one result, lines of JSON.

    in    {"verb": ..., ...}, then a sign of life every 10 s; {"cancel": true} ends the stage
    out   {"event": ...} while a stage runs, then {"result": {...}} or {"error": {...}}

Where the other side falls silent (a cut link, a killed orchestrator) this process ends and the stage goes on: the next
request for the same key finds it, or what it made.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slipway.agent import probe
from slipway.config.engine import EngineConfig
from slipway.config.target import TargetConfig
from slipway.errors import ConfigError, ResourceError, SlipwayError, StageError
from slipway.pipeline.ensure import ensure
from slipway.pipeline.measurements import this_machine
from slipway.pipeline.stage import StageCall, stage_spec
from slipway.runners.local import LocalRunner
from slipway.store.artifacts import MANIFEST, Artifact
from slipway.store.key import key_of
from slipway.store.manifest import read_manifest
from slipway.store.store import Store, load, sized, verify
from slipway.system.memory import total_bytes
from slipway.system.redact import mask_exception

SILENCE_S = 60.0
STDIN = 0
LEFT = 75  # exit code: the other side is gone, the stage goes on
Document = dict[str, Any]
_KINDS = {cls.kind: cls for cls in Artifact.__subclasses__()}


def has(request: Document) -> Document:
    """`{"kind", "key", "digest"}` -> `{"has": bool}`: whether the artifact is here, every byte of it. A damaged one is
    moved aside."""
    artifact = Store(Path(request["store"])).find(_kind(request), request["key"])
    return {"has": artifact is not None and artifact.digest == request["digest"]}


def inventory(request: Document) -> Document:
    """`{}` -> `{"artifacts": {"KIND/KEY": digest}}`: what is here, as manifests and sizes say; no byte is read."""
    store = Path(request["store"])
    folders = [manifest.parent for kind in _KINDS for manifest in store.glob(f"{kind}/*/{MANIFEST}")]
    here = [folder for folder in folders if "." not in folder.name]  # damaged ones, moved aside, have one
    return {"artifacts": {f"{one.parent.name}/{one.name}": read_manifest(one)["digest"] for one in here if sized(one)}}


def take(request: Document) -> Document:
    """`{"kind", "key", "digest", "incoming"}` -> `{}`: an artifact that was copied becomes one of the store. Raises
    ResourceError for other bytes than its manifest's; they are removed file by file by the next copy."""
    incoming = Path(request["incoming"])
    artifact = load(_kind(request), incoming)
    problem = verify(incoming)
    if problem or artifact.digest != request["digest"]:
        value = problem or f"digest {artifact.digest[:12]}"
        raise ResourceError(f"copy of {artifact.kind} {request['digest'][:12]}", value, "its own bytes", "run again")
    (incoming / "manifest.json").touch()  # sealed now: no file has changed since (`weights/external.py`)
    final = Store(Path(request["store"])).dir(artifact.kind, request["key"])
    final.parent.mkdir(parents=True, exist_ok=True)
    if not final.exists():
        incoming.rename(final)
    return {}


def make(request: Document) -> Document:
    """`{"stage", "key", "inputs", "params", "extra", "stop_s"}` -> `{"reused", "why", "seconds", "peak_rss"}`: the
    artifact of this call, in this store. Raises what the stage raises; ConfigError where the same call has another key
    here."""
    store, spec = Store(Path(request["store"])), stage_spec(request["stage"])
    params = spec.params.model_validate(request["params"])
    inputs = {name: _input(store, one) if one else None for name, one in request["inputs"].items()}
    call = StageCall(request["stage"], inputs, params, "", request["extra"], request["stop_s"])
    if (key := key_of(call.key_document())) != request["key"]:
        value, expected = f"key {key[:12]} here", f"{request['key'][:12]}, as where it was asked"
        raise ConfigError(f"stage {call.stage}", value, expected, "one version of Slipway on both machines")
    made = ensure(call, store, Path(request["cache"]), LocalRunner(), lambda event: _say({"event": event}))
    return {"reused": made.reused, "why": made.why, "seconds": made.seconds, "peak_rss": made.peak_rss}


def facts(request: Document) -> Document:
    """`{"engine", "serving"}` (sections of the config) -> `{"name", "memory", "fingerprint"}`: this machine as
    measurements name it, bytes of memory, and what an engine built here is valid for."""
    from slipway.engines.fingerprint import engine_fingerprint

    engine, serving = EngineConfig.model_validate(request["engine"]), TargetConfig.model_validate(request["serving"])
    fingerprint = engine_fingerprint(engine, serving)
    return {"name": this_machine(), "memory": total_bytes(), "fingerprint": fingerprint}


def look(request: Document) -> Document:
    """`{}` -> this machine as a target's agent gives itself (`agent/probe.py`), by the disk of the store."""
    return probe.look(Path(request["store"]), ())


def layers(request: Document) -> Document:
    """`{"key"}` -> `{"layers", "notes", "blobs", "claim"}`: the engine of this key cut into the layers of a release,
    which lie in the folder `blobs` by digest; those of other releases go, unless a delivery of them has not ended
    (`delivered`)."""
    from slipway.deployment.bundle.files import engine_parts
    from slipway.deployment.bundle.oci_layout import OciLayout
    from slipway.deployment.bundle.release import BUNDLES
    from slipway.store.artifacts import Engine

    store = Store(Path(request["store"]))
    engine = load(Engine, store.dir(Engine.kind, request["key"]))
    if problem := verify(engine.path):
        raise ResourceError(f"engine {engine.path}", problem, "intact bytes", "run the pipeline again")
    layout = OciLayout(store.root / BUNDLES)
    parts, notes = engine_parts(engine)
    packed = [dataclasses.asdict(layout.add_layer(part)) for part in parts]
    layout.sweep(one["descriptor"]["digest"].removeprefix("sha256:") for one in packed)
    return {"layers": packed, "notes": notes, "blobs": str(layout.blobs), "claim": layout.claim}


def delivered(request: Document) -> Document:
    """`{"claim"}` -> `{}`: a delivery of layers ended; the next one may remove them."""
    from slipway.deployment.bundle.oci_layout import OciLayout
    from slipway.deployment.bundle.release import BUNDLES

    OciLayout(Path(request["store"]) / BUNDLES).release(request["claim"])
    return {}


VERBS: dict[str, Callable[[Document], Document]] = {
    one.__name__: one for one in (has, inventory, take, make, facts, look, layers, delivered)
}


def main() -> int:
    """Answer the request on standard input. Exit codes as `slipway`'s; 75 when the other side is gone."""
    lines = _Lines()
    request = lines.next()
    if request is None:
        return LEFT
    threading.Thread(target=_listen, args=[lines], daemon=True).start()
    try:
        _say({"result": VERBS[request["verb"]](request)})
    except KeyboardInterrupt:
        error = StageError(f"stage {request.get('stage')}", "cancelled", "an artifact", "run again to resume")
        _say({"error": error.to_json()})
        return error.exit_code
    except SlipwayError as err:
        mask_exception(err)
        _say({"error": err.to_json()})
        return err.exit_code
    return 0


class _Lines:
    """JSON lines of standard input, unbuffered: a line that waits in a buffer would not be seen by `select`."""

    def __init__(self) -> None:
        self._rest = b""

    def next(self) -> Document | None:
        """The next line; None when there is no further one, or none for SILENCE_S."""
        while b"\n" not in self._rest:
            if not select.select([STDIN], [], [], SILENCE_S)[0]:
                return None
            piece = os.read(STDIN, 1 << 20)
            if not piece:
                return None
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return dict(json.loads(line))


def _listen(lines: _Lines) -> None:
    """Cancel when told so; leave when nobody is there any more."""
    while (message := lines.next()) is not None:
        if message.get("cancel"):
            os.kill(os.getpid(), signal.SIGINT)
    os._exit(LEFT)


def _say(message: Document) -> None:
    try:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()
    except OSError:
        os._exit(LEFT)


def _kind(request: Document) -> type[Artifact]:
    return _KINDS[request["kind"]]


def _input(store: Store, reference: Document) -> Artifact:
    """An input in this store, whose bytes were verified when it was made, sent or found by this run. Raises StateError
    when it is not there, ResourceError when it is another."""
    artifact = load(_kind(reference), store.dir(reference["kind"], reference["key"]))
    if artifact.digest != reference["digest"]:
        value, expected = f"digest {artifact.digest[:12]}", reference["digest"][:12]
        raise ResourceError(f"input {artifact.path}", value, expected, "run again")
    return artifact


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, lambda *_: os._exit(LEFT))
    sys.exit(main())

"""A new bundle's starts: cold ones, the harvest of the last, warm ones; each is stopped before the next begins.

    cold -> ready -> warm-up until nothing is compiled -> clean stop -> harvest -> warm, warm, warm

A bundle whose caches could not be taken starts cold for ever, and the reason is a note; its answers are as good.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from slipway.config.engine import BootsConfig
from slipway.engines.boots import Boot, measure_boot
from slipway.engines.bundle_key import KeyDocument
from slipway.engines.chat_client import ChatClient
from slipway.engines.serving import Service, serve, stop
from slipway.engines.start_steps import LogWatch
from slipway.engines.warm_cache import harvest
from slipway.engines.warm_start import Note, WarmFill, start_key
from slipway.errors import EngineError

Ask = Callable[[str], None]
TIMEOUT_S = 600.0  # of a request: a kernel may be compiled for it
WARM_STARTS = 3


def boot_series(
    service: Service, weights: str, boots: BootsConfig, limit_bytes: int, note: Note, ask: Ask | None = None
) -> list[Boot]:
    """Start the bundle of `service` as often as `boots` says, measure each start, and put the caches into the bundle.
    `weights`: digest of the checkpoint; `limit_bytes`: most that the caches may take; `ask` is called with the URL of
    the last start, measured and still serving.

    Raises EngineError when it does not start or answer, and what the machine's runner raises.
    """
    count = boots.warm if boots.warm is not None else WARM_STARTS if service.plan.caches else 0
    asks = [*[None] * (boots.cold + count - 1), ask]
    measured = [_boot(service, "cold", note, ask=one) for one in asks[: boots.cold]]
    if not service.plan.caches:
        return [*measured, *(_boot(service, "warm", note, ask=one) for one in asks[boots.cold :])]
    fill = WarmFill(start_key(service, weights), note)
    _harvest(service, fill.key, measured[-1], limit_bytes, note)
    warm = replace(service, fill_cache=fill)
    return [*measured, *(_boot(warm, "warm", note, fill, one) for one in asks[boots.cold :])]


def _boot(service: Service, start: str, note: Note, fill: WarmFill | None = None, ask: Ask | None = None) -> Boot:
    """One start, measured, and stopped again. One that found no caches to use is a cold one, whatever was meant."""
    log = service.work / "log.txt"
    watch = LogWatch(log, offset=log.stat().st_size if log.exists() else 0)
    begin = watch.clock()
    endpoint = serve(service, watch.look)
    watch.look()  # what was printed since the last look was printed before it was ready
    ready = watch.clock()
    try:
        watch.refresh = endpoint.ended
        with ChatClient(endpoint.url, endpoint.model, TIMEOUT_S) as client:
            reasons = [str(reason) for reason in fill.reasons] if fill else []
            boot = measure_boot(
                "cold" if start == "cold" or reasons else "warm",
                service.plan.kind,
                client,
                watch,
                (begin, ready),
                service.plan.limits,
                caches=bool(service.plan.caches),
                cold_because=reasons,
            )
        if ask:
            ask(endpoint.url)
    finally:
        stopping = time.monotonic()
        stop(endpoint)
        stopped_s = time.monotonic() - stopping
    steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in boot.steps.items())
    note(f"{boot.start} start {boot.ready_s:.1f} s ({steps}), {boot.tokens_per_s:.0f} tokens/s in {boot.passes} passes")
    return boot.model_copy(update={"stop_s": round(stopped_s, 3)})


def _harvest(service: Service, key: KeyDocument, boot: Boot, limit_bytes: int, note: Note) -> None:
    """Of an engine that compiled to the end and stopped by itself; one that was killed may have been writing."""
    if boot.stop_s >= service.plan.stop_s:
        note(f"no caches are kept: the engine had to be killed {service.plan.stop_s:.0f} s after SIGTERM")
        return
    if not boot.settled:
        note(f"the engine still compiled after {boot.passes} passes of warm-up: its caches may lack kernels")
    try:
        manifest = harvest(service.cache_folder, service.bundle, key, limit_bytes)
    except EngineError as err:
        note(f"no caches are kept: {err}")
        return
    dropped = f", {len(manifest.dropped)} locks left out" if manifest.dropped else ""
    note(f"caches of {len(manifest.files)} files, {manifest.nbytes / 1e6:.1f} MB{dropped}")

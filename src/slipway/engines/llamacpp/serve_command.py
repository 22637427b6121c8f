"""llama-server's command line as a plan. Short because the old bundles' reader and the driver share it."""

from __future__ import annotations

from slipway.engines.driver import Limits, ServePlan

MODEL, SERVER = "model.gguf", "llama-server"


def serve_plan(
    *,
    context: int,
    slots: int,
    threads: int | None,
    target: str = "local",
    alias: str = "slipway",
    server: str = SERVER,
    model: str = MODEL,
) -> ServePlan:
    """How a bundle with llama-server and a GGUF file is served. `context`: tokens per slot; `threads` null: all cores.

    One KV pool for all slots costs 8% less CPU than one each, and a lone request may use all of it. No cache of old
    prompts in RAM: it would make a repeated prompt look fast in a speed run.
    """
    argv = [f"{{bundle}}/{server}", "--model", f"{{bundle}}/{model}", "--alias", alias]
    argv += ["--host", "{host}", "--port", "{port}"]
    argv += ["--ctx-size", str(context * slots), "--parallel", str(slots)]
    argv += ["--threads", "{threads}" if threads is None else str(threads)]
    argv += ["--kv-unified", "--cache-ram", "0", "--threads-http", str(slots + 2), "--metrics", "--offline"]
    return ServePlan(
        kind="llama.cpp",
        target=target,
        argv=argv,
        alias=alias,
        limits=Limits(context=context, slots=slots),
    )

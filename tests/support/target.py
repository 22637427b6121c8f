"""A target whose engines are small scripts that speak the engine's protocol, promoted for real."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import psutil

from slipway.config.deploy import DeployConfig
from slipway.config.proxy import ProxyConfig
from slipway.deployment.releases import Release
from slipway.engines.llamacpp.first_bundles import FirstServe
from slipway.store.artifacts import Artifact, Dataset, Engine, Evaluation, Verdict
from slipway.store.references import reference_to
from slipway.store.store import Store, load
from slipway.system.ports import any_port
from slipway.system.processor import cpu_digest

# What llama-server does as far as a promotion sees it; the "model" is JSON that says how to behave.
SERVER = f"""#!{sys.executable} -SE
import json, os, socket, ssl, sys, time
from contextlib import suppress
begun = time.monotonic()
arg = dict(zip(sys.argv[1::2], sys.argv[2::2]))
model = json.load(open(arg["--model"]))
if model.get("kill_parent"):
    os.kill(os.getppid(), 9)
if model.get("die"):
    sys.exit("error: unknown tensor type")
def answer(status, kind, body):
    head = f"HTTP/1.1 {{status}} -\\r\\nContent-Type: {{kind}}\\r\\nContent-Length: {{len(body)}}\\r\\n"
    return head + f"Connection: close\\r\\n\\r\\n{{body}}"
chunk = json.dumps({{"choices": [{{"delta": {{"content": model["answer"]}}, "finish_reason": "stop"}}]}})
def loading():
    return model.get("loading") or time.monotonic() - begun < model.get("loads_s", 0)
def after(option):
    return sys.argv[sys.argv.index(option) + 1]
tls = "--ssl-certfile" in sys.argv and ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
if tls:
    tls.load_cert_chain(after("--ssl-certfile"), after("--ssl-keyfile"))
def spoken(connection):
    return tls.wrap_socket(connection, server_side=True) if tls else connection
listener = socket.create_server((arg["--host"], int(arg["--port"])))
while True:
    accepted, _ = listener.accept()
    with suppress(OSError), accepted, spoken(accepted) as connection, connection.makefile("rb") as request:
        if not (line := request.readline()):
            continue  # somebody looked whether it listens, or gave up on a slow machine
        method, path, _ = line.split()
        headers = dict(line.lower().strip().split(b": ") for line in iter(request.readline, b"\\r\\n"))
        key = os.environ.get("LLAMA_API_KEY", "")
        if method == b"GET":
            sent = answer(503 if loading() else 200, "application/json", "{{}}")
        else:
            if model.get("die_asked"):
                os._exit(3)
            prompt = json.loads(request.read(int(headers[b"content-length"])))
            if key and headers.get(b"authorization") != b"bearer " + key.encode():
                connection.sendall(answer(401, "application/json", "{{}}").encode())
                continue
            assert prompt["messages"][-1]["role"] == "user"
            sent = answer(200, "text/event-stream", f"data: {{chunk}}\\n\\ndata: [DONE]\\n\\n")
        connection.sendall(sent.encode())
"""
NO_PROXY = ProxyConfig(kind="none")  # its port is one; the targets of tests are many
Ship = Callable[..., Release]
JSON_ANSWER = '{"intent":"HassTurnOn"}'


def target_params(root: str) -> DeployConfig:
    """A target with a range of ports of its own, so that tests can run side by side."""
    first = any_port()
    return DeployConfig(root=root, ports=(first, first + 9), start_timeout_s=60, smoke_requests=2, proxy=NO_PROXY)


def make_data(store: Store) -> Dataset:
    """Seven test rows."""
    turns = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": JSON_ANSWER},
    ]
    with store.create(Dataset, "d", {}) as out:
        (out / "test.jsonl").write_text(
            "".join(json.dumps({"id": f"t{i}", "messages": turns, "label": "l"}) + "\n" for i in range(7))
        )
    return load(Dataset, store.dir("dataset", "d"))


def make_engine(store: Store, model: dict[str, Any], program: str = SERVER) -> Engine:
    """An engine bundle whose server, `program`, reads `model`, an object that scripts its behaviour."""
    text = json.dumps(model, sort_keys=True)
    key = f"e{abs(hash(text)):x}"
    with store.create(Engine, key, {"stage": "engine", "inputs": {}}) as out:
        (out / "model.gguf").write_text(text)
        (out / "server").write_text(program)
        (out / "server").chmod(0o755)
        serve = FirstServe(
            model="model.gguf", server="server", context=256, slots=1, threads=1, build="b", cpu=cpu_digest()
        )
        (out / "serve.json").write_text(serve.model_dump_json())
    return load(Engine, store.dir("engine", key))


def make_verdict(
    store: Store,
    engine: Engine,
    outcome: str = "pass",
    recorded: str = "",
    against: Sequence[Engine] = (),
    **beside: Artifact,
) -> Verdict:
    """A verdict with this outcome on an evaluation of `engine`, which `recorded` answers, if any; `against`: engines
    that it was compared with; `beside`: more inputs, as `search`."""

    def inputs(**named: Any) -> dict[str, Any]:
        return {"inputs": {k: reference_to(a, store.root) for k, a in named.items()}}

    key = "-".join([engine.key, outcome, *(other.key for other in (*against, *beside.values()))])
    with store.create(Evaluation, key, inputs(engine=engine)) as out:
        (out / "items.jsonl").write_text(engine.digest)
        if recorded:
            (out / "probe.jsonl").write_text(recorded)
    others = {**{f"champion{at}": other for at, other in enumerate(against)}, **beside}
    with store.create(Verdict, key, inputs(candidate=load(Evaluation, store.dir("evaluation", key)), **others)) as out:
        (out / "verdict.json").write_text(json.dumps({"outcome": outcome, "rules": []}))
    return load(Verdict, store.dir("verdict", key))


def running(params: DeployConfig) -> list[int]:
    """Pids of every engine process of this target, recorded or not."""
    pids = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(
            a.startswith(f"{params.root}/") for a in process.info["cmdline"] or []
        ):
            pids.append(process.pid)
    return pids

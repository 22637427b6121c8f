"""One server over two nodes, which are two GPUs of one host here: each rank sees one of them, as on two Sparks, and is
started by the plan's own command with the variables that Slurm would give it. Needs two GPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from slipway.config.engine import AgreementConfig, EngineConfig
from slipway.config.target import TargetConfig
from slipway.engines.driver import ServePlan
from slipway.engines.vllm.driver import DRIVER
from slipway.evaluation.agreement_check import Agreeing
from slipway.store.artifacts import Quantized
from slipway.system.progress import Progress

ADDRESS, PORT, READY_S = "127.0.0.1", "8765", 400.0
LOAD = ("--concurrency", "1,8,64", "--requests", "100", "--output-tokens", "112-144", "--json")


def two_nodes(model: Path, params: EngineConfig, machine: Mapping[str, Any], work: Path) -> dict[str, Any]:
    """Start, kernel agreement, tokens per second and exit codes of a server of `model` in two ranks. `machine`: a
    node's fields of a target."""
    pair = TargetConfig(**{**machine, "name": "pair", "nodes": 2, "runner": {"kind": "slurm", "image": "none"}})
    params = params.model_copy(update={"tensor_parallel": 2})
    plan = DRIVER.plan(model, params, pair)
    weights = Quantized(uri=str(model), digest="0" * 64)
    agreeing = Agreeing(weights, plan, AgreementConfig(check="on", prompts=4, tokens=512), Progress())
    url, begin = f"http://{ADDRESS}:{PORT}", time.monotonic()
    with _ranks(plan, model, work) as ranks:
        ready = _wait(url, ranks)
        figures: dict[str, Any] = {"ready_s": round(time.monotonic() - begin, 1) if ready else None}
        if ready:
            agreeing.ask(f"{url}/v1")
            words = [sys.executable, "-m", "slipway", "bench", url, *LOAD]
            done = subprocess.run(words, capture_output=True, text=True, timeout=200)
            runs = json.loads(done.stdout)["runs"] if done.returncode == 0 else []
            figures["tokens_per_s"] = {run["concurrency"]: run["tokens_per_s"] for run in runs} or done.stderr[-500:]
    figures |= {"exit_codes": [rank.returncode for rank in ranks], "argv": plan.argv}
    return {**figures, "agreement": agreeing.figures()} if ready else figures | {"log": _ends(work)}


@contextmanager
def _ranks(plan: ServePlan, model: Path, work: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    places = {"{model}": str(model), "{port}": PORT, "{host}": ADDRESS}
    ranks = list[subprocess.Popen[bytes]]()
    try:
        for rank in (0, 1):
            home = work / f"rank{rank}"
            home.mkdir(parents=True, exist_ok=True)
            own = {name: _filled(value, {**places, "{cache}": str(home)}) for name, value in plan.environment.items()}
            slurm = {"SLURM_NNODES": "2", "SLURM_NODEID": str(rank), "SLURM_LAUNCH_NODE_IPADDR": ADDRESS}
            host = {"CUDA_VISIBLE_DEVICES": str(rank), "VLLM_HOST_IP": ADDRESS, "NCCL_NVLS_ENABLE": "0"}
            sockets = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
            with (home / "log").open("wb") as log:
                words = [_filled(word, places) for word in plan.argv]
                environment = {**os.environ, **own, **slurm, **host, **sockets}
                ranks.append(subprocess.Popen(words, env=environment, stdout=log, stderr=subprocess.STDOUT))
        yield ranks
    finally:
        for one in ranks:
            one.terminate()
        for one in ranks:
            try:
                one.wait(plan.stop_s)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()


def _filled(word: str, places: Mapping[str, str]) -> str:
    for place, value in places.items():
        word = word.replace(place, value)
    return word


def _wait(url: str, ranks: list[subprocess.Popen[bytes]]) -> bool:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and all(rank.poll() is None for rank in ranks):
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", timeout=2, trust_env=False).status_code == 200:
                return True
        time.sleep(1)
    return False


def _ends(work: Path) -> dict[str, str]:
    return {file.parent.name: file.read_text(errors="replace")[-2000:] for file in sorted(work.glob("rank*/log"))}

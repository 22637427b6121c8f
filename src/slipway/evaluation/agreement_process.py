"""Kernel agreement in a process of its own: whoever promotes loads no torch and ends it at its limit.

python -m slipway.evaluation.agreement_process FOLDER

<folder>/job.json         checkpoint (path, kind), bundle, plan, url, endpoint (its files), params, long_tokens
<folder>/progress.jsonl   what it does, as stages say it
<folder>/verdict.json     the figures, or under `refused` why there are none
<folder>/error.json       instead: what was raised, as `SlipwayError.to_json`
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from slipway.agent.engine_key import access_of
from slipway.config.engine import AgreementConfig
from slipway.engines.driver import ServePlan
from slipway.errors import EngineError, SlipwayError
from slipway.evaluation.agreement_check import Agreeing
from slipway.evaluation.known_scores import read_scores
from slipway.store.artifacts import Checkpoint, Quantized
from slipway.store.store import load
from slipway.system import deferred_imports
from slipway.system.files import write_atomic
from slipway.system.installed import missing_is_named
from slipway.system.progress import Progress
from slipway.system.tail import Tail
from slipway.system.throttle import Throttle

JOB, PROGRESS, VERDICT, ERROR, LOG = "job.json", "progress.jsonl", "verdict.json", "error.json", "log"
POLL_S, NOTE_EVERY_S, LOG_BYTES = 0.1, 5.0, 600
_OPEN: Mapping[str, Any] = {}
_KINDS: dict[str, type[Checkpoint | Quantized]] = {Checkpoint.kind: Checkpoint, Quantized.kind: Quantized}


def check_at(
    url: str,
    checkpoint: Checkpoint | Quantized,
    bundle: Path,
    plan: ServePlan,
    params: AgreementConfig,
    *,
    long_tokens: int,
    limit_s: float,
    on_gpu: bool,
    note: Callable[[str], None],
    endpoint: Mapping[str, Any] = _OPEN,
) -> dict[str, Any]:
    """The figures of kernel agreement of the engine at `url`, or under `refused` why there are none, which a check that
    takes longer than `limit_s` seconds is too. `bundle`: the engine's folder, with scores of what it wrote before.
    `on_gpu`: the reference may take this machine's GPU; else it computes on the CPU. `endpoint`: the engine's, whose
    files say how it is asked.

    Raises EngineError when the engine does not agree, does not answer, or the process ends without a word; with
    `check: on` what else `agreement_check` raises.
    """
    with tempfile.TemporaryDirectory(prefix="slipway-agreement-") as name:
        folder = Path(name)
        job = {
            "checkpoint": {"path": str(checkpoint.path.resolve()), "kind": checkpoint.kind},
            "bundle": str(bundle.resolve()),
            "plan": plan.model_dump(mode="json"),
            "url": url,
            "endpoint": {name: endpoint[name] for name in ("key_file", "ca_file") if name in endpoint},
            "params": params.model_dump(mode="json"),
            "long_tokens": long_tokens,
        }
        write_atomic(folder / JOB, json.dumps(job))
        environment = os.environ if on_gpu else {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
        with (folder / LOG).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, name],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                ended = _follow(process, Tail(folder / PROGRESS), limit_s, note)
            finally:
                with suppress(ProcessLookupError):
                    process.kill()
                process.wait()
        return _result(folder, process.returncode) if ended else {"refused": f"not done within {limit_s:g} s"}


def _follow(process: subprocess.Popen[bytes], tail: Tail, limit_s: float, note: Callable[[str], None]) -> bool:
    """Say what it does until it has ended; False where it runs still after `limit_s` seconds."""
    deadline, due = time.monotonic() + limit_s, Throttle(NOTE_EVERY_S)
    while process.poll() is None:
        for event in tail.events():
            if event.get("event") == "note":
                note(str(event["text"]))
            elif event.get("event") == "progress" and due.due():
                total = f" of {event['total']:g}" if event.get("total") else ""
                note(f"kernel agreement: {event['what']}, {event['done']:g}{total} {event['unit']}")
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _result(folder: Path, code: int) -> dict[str, Any]:
    if (folder / ERROR).is_file():
        raise SlipwayError.from_json(json.loads((folder / ERROR).read_text(encoding="utf-8")))
    if code != 0 or not (folder / VERDICT).is_file():
        words = (folder / LOG).read_bytes()[-LOG_BYTES:].decode(errors="replace").strip()
        value = f"ended with {code}: {words}"
        raise EngineError("check of kernel agreement", value, "a verdict", "deploy.probe.agreement.check=off leaves it")
    verdict: dict[str, Any] = json.loads((folder / VERDICT).read_text(encoding="utf-8"))
    return verdict


def main(folder: Path) -> int:
    """The check of `folder`; 0 with a verdict, the error's exit code with an error written."""
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    params, plan = AgreementConfig.model_validate(job["params"]), ServePlan.model_validate(job["plan"])
    try:
        with Progress(folder / PROGRESS) as progress, missing_is_named():
            checkpoint = load(_KINDS[job["checkpoint"]["kind"]], Path(job["checkpoint"]["path"]))
            agreeing = Agreeing(checkpoint, plan, params, progress, read_scores(Path(job["bundle"])))
            agreeing.ask(job["url"], int(job["long_tokens"]), access_of(job["endpoint"]))
            verdict = agreeing.verdict()
    except SlipwayError as err:
        write_atomic(folder / ERROR, json.dumps(err.to_json()))
        return err.exit_code
    write_atomic(folder / VERDICT, json.dumps(verdict))
    return 0


if __name__ == "__main__":
    deferred_imports.install()
    sys.exit(main(Path(sys.argv[1])))

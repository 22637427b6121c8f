"""Two clients against one server of fixed delays: ours and aiperf, with one caller; they must agree within 5%.

`infra/lab/aiperf/install DIR`, then `python -m benchmarks.speed_clients --aiperf DIR`, a minute. The server answers
after 200 ms and then every 40 ms, so that the right figures are known. aiperf's inter-token latency is the mean of a
request, (latency - TTFT) / (tokens - 1): our TPOT. Both ask the same prompts, and count by the server's usage.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from slipway.evaluation.bench import own_prompts
from slipway.evaluation.load_client import LoadClient
from slipway.evaluation.speed import measure
from slipway.system.progress import Progress
from tests.support.pico import pico_model
from tests.support.timed_server import Script, timed

TOKENIZER = "slipway/pico"
FIRST_S, GAP_S, TOKENS, AGREEMENT = 0.2, 0.04, 32, 0.05


def main() -> None:
    """Run both and print one JSON line; exit 1 when they differ by more than 5%."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--aiperf", type=Path, required=True, help="environment that has aiperf")
    parser.add_argument("--requests", type=int, default=20)
    args = parser.parse_args()
    with timed(Script(first_s=FIRST_S, gap_s=GAP_S)) as url:
        run = measure(LoadClient(url, "m", 60), own_prompts(), [1], args.requests, Progress(), (TOKENS, TOKENS))[0]
        theirs = aiperf(args.aiperf, url, args.requests)
    ours = {"ttft_ms": run["ttft_ms"]["p50"], "tpot_ms": run["tpot_ms"]["p50"], "tokens_per_s": run["tokens_per_s"]}
    ratios = {name: round(theirs[name] / ours[name], 4) for name in ours}
    agree = all(abs(ratio - 1) <= AGREEMENT for ratio in ratios.values())
    print(json.dumps({"ours": ours, "aiperf": theirs, "ratio": ratios, "agree": agree}))
    sys.exit(not agree)


def aiperf(environment: Path, url: str, requests: int) -> dict[str, float]:
    """The same figures by aiperf; its output is shown when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts.jsonl"
        prompts.write_text("".join(json.dumps({"text": one[0]["content"]}) + "\n" for one in own_prompts()))
        command = [str(environment / "bin/aiperf"), "profile", "--model", "m", "--url", url.removesuffix("/v1")]
        command += ["--endpoint-type", "chat", "--streaming", "--concurrency", "1", "--request-count", str(requests)]
        command += ["--warmup-request-count", "2", "--use-server-token-count"]
        command += ["--input-file", str(prompts), "--custom-dataset-type", "single_turn"]
        command += [
            "--extra-inputs",
            f"max_tokens:{TOKENS}",
            "--extra-inputs",
            "ignore_eos:true",
            "--connection-reuse-strategy",
            "never",
        ]
        command += ["--ui", "none", "--output-artifact-dir", folder, "--tokenizer", TOKENIZER, "--no-gpu-telemetry"]
        hub = {"HF_HOME": str(_hub(Path(folder) / "hub")), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, env={**os.environ, **hub})
        files = list(Path(folder).rglob("profile_export_aiperf.json"))
        if done.returncode or not files:
            sys.exit(f"aiperf ended with {done.returncode}:\n{done.stdout[-9000:]}\n{done.stderr[-3000:]}")
        document: dict[str, Any] = json.loads(files[0].read_text())
    return {
        "ttft_ms": document["time_to_first_token"]["p50"],
        "tpot_ms": document["inter_token_latency"]["p50"],
        "tokens_per_s": document["output_token_throughput"]["avg"],
    }


def _hub(home: Path) -> Path:
    """A cache of Hugging Face's hub that holds a tiny tokenizer: aiperf wants one by name, and knows no directory."""
    revision, entry = "0" * 40, home / "hub" / f"models--{TOKENIZER.replace('/', '--')}"
    (entry / "refs").mkdir(parents=True)
    (entry / "refs/main").write_text(revision)
    pico_model(entry / "snapshots" / revision)
    return home


if __name__ == "__main__":
    main()

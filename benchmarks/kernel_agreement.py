"""Healthy engines and planted faults before the rule of kernel agreement: what it catches, and its healthy spread.

`python -m benchmarks.kernel_agreement --work DIR`: pico models of many seeds are converted by llama.cpp's converter and
served by llama-server; the reference reads the weights that were converted. Faults are planted between the two, in the
engine's model file or in how it is started, so that everything else is the real path:

- scale: one matrix of one layer twice or half as large (a scale read wrong)
- rows: two heads of q or k of one layer in each other's place
- cache: keys or values of every layer twice or half as large (a KV scale read wrong)
- length: rotary angles one or two percent too small, which is little between neighbours and much across an answer; or
  a cache that silently drops the oldest half of what it holds after 256 tokens

Every other model is NVFP4 (weights only), the rest bf16. Prints one JSON line; `--healthy` and `--seeds` are the
numbers of healthy models and of models for each fault. Limits were set by `--first 0 --healthy 20 --seeds 0` with 768
tokens; what they do is measured on other models.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from benchmarks.measure import RunFailedError, emit, say
from slipway.evaluation.kernel_agreement import GROWTH, RATIO, Agreement

FAULTS = ("scale", "rows", "cache", "length")
PROMPTS, TOKENS, LAYERS, HEAD = 8, 512, 4, 16
_LETTERS = 259  # the first token that is a whole character; those before it are bytes and marks


def main() -> None:
    """Run the series and print its line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--healthy", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=25, help="models for each fault")
    parser.add_argument("--first", type=int, default=500, help="first seed")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    verdicts: dict[str, list[Agreement]] = {"healthy": [], **{fault: [] for fault in FAULTS}}
    for i in range(max(args.healthy, args.seeds)):
        wanted = (["healthy"] if i < args.healthy else []) + (list(FAULTS) if i < args.seeds else [])
        for fault, verdict in engines(args.first + i, wanted, args.work).items():
            verdicts[fault].append(verdict)
    emit("kernel_agreement", {"first_seed": args.first, **figures(verdicts), "prompts": PROMPTS, "tokens": TOKENS})


def figures(verdicts: dict[str, list[Agreement]]) -> dict[str, Any]:
    """What the rule made of healthy engines and of each fault."""
    healthy = verdicts["healthy"]
    faults = {fault: made for fault, made in verdicts.items() if fault != "healthy" and made}
    return {
        "healthy": len(healthy),
        "passed": sum(one.outcome == "pass" for one in healthy),
        "ln_ratio": spread([one.ratio for one in healthy]),
        "ln_growth": spread([one.growth for one in healthy]),
        "limits": {"ratio": round(RATIO.limit, 3), "growth": round(GROWTH.limit, 3)},
        "largest_healthy": {
            "ratio": round(max(one.ratio for one in healthy), 3),
            "growth": round(max(one.growth for one in healthy), 3),
        },
        "faults": {fault: len(made) for fault, made in faults.items()},
        "caught": {fault: sum(one.outcome == "fail" for one in made) for fault, made in faults.items()},
        "smallest_ratio": {fault: round(min(one.ratio for one in made), 3) for fault, made in faults.items()},
        "growth_beyond_limit": {f: sum(one.growth > GROWTH.limit for one in made) for f, made in faults.items()},
    }


def spread(values: list[float]) -> dict[str, float]:
    """Mean and standard deviation of the logarithms."""
    logs = [math.log(value) for value in values]
    return {"mean": round(statistics.mean(logs), 4), "sd": round(statistics.stdev(logs), 4) if len(logs) > 1 else 0.0}


def engines(seed: int, wanted: list[str], work: Path) -> dict[str, Agreement]:
    """Verdicts on engines of the model of `seed`: healthy, or with a fault, as `wanted` names them."""
    from slipway.calibration.rounding_kinds import KernelRounding
    from slipway.config.engine import EngineConfig
    from slipway.config.store import StoreConfig
    from slipway.engines.llamacpp.build import ensure_build
    from slipway.engines.llamacpp.convert import convert
    from slipway.engines.token_client import TokenClient
    from slipway.evaluation.agreement_check import compare
    from slipway.system.progress import Progress
    from tests.support.streaming import quantized

    folder, verdicts = Path(tempfile.mkdtemp(dir=work)), dict[str, Agreement]()
    try:
        model = letters_model(folder / "model", seed)
        if seed % 2:
            model = quantized(model, folder / "quantized", format="nvfp4a16")
        build = ensure_build(EngineConfig(), Path(StoreConfig().cache).expanduser(), Progress())
        convert(build, model, folder / "healthy.gguf", "bf16")
        draw = random.Random(seed)
        prompts = [[1, *(draw.randrange(_LETTERS, 350) for _ in range(20)), 2] for _ in range(PROMPTS)]
        rounding = KernelRounding(inputs="bf16", quantized="q8_0", attention="fp16")
        for fault in wanted:
            file = shutil.copy2(folder / "healthy.gguf", folder / "served.gguf")
            options = plant(fault, seed, file, build.root / "gguf-py") if fault != "healthy" else []
            with llama_server(build.server, file, options) as url:
                written = TokenClient("llama.cpp", url, "slipway").write(prompts, TOKENS, PROMPTS, Progress())
            one = verdicts[fault] = compare(written, model, bool(seed % 2), rounding, 1e9, Progress())
            say(f"{seed} {fault}: ratio {one.ratio:.3f}, growth {one.growth:.3f}, {one.outcome}")
    finally:
        shutil.rmtree(folder)
    return verdicts


@contextmanager
def llama_server(program: Path, model: Path, options: list[str]) -> Iterator[str]:
    """`program` serving a GGUF file on a free port for the time of the block; yields its URL."""
    from slipway.system import http, ports

    port, log_file = ports.any_port("127.0.0.1"), model.with_suffix(".log")
    argv = [str(program), "--model", str(model), "--host", "127.0.0.1", "--port", str(port), "--threads", "1"]
    argv += ["--ctx-size", str(1024 * PROMPTS), "--parallel", str(PROMPTS), "--kv-unified", "--cache-ram", "0"]
    with log_file.open("w") as log, subprocess.Popen([*argv, *options], stdout=log, stderr=log) as process:
        try:
            while not http.is_healthy(f"http://127.0.0.1:{port}/health", 2, direct=True):
                if process.poll() is not None:
                    raise RunFailedError(log_file.read_text()[-2000:])
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()


def letters_model(out: Path, seed: int) -> Path:
    """A pico Llama that writes whole characters only: embeddings of bytes and marks are small, so are their logits."""
    from tests.support.pico import pico_model

    pico_model(out, seed=seed)
    tensors = load_file(out / "model.safetensors")
    tensors["model.embed_tokens.weight"][:_LETTERS] *= 0.05
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    return out


def plant(fault: str, seed: int, file: Path, gguf: Path) -> list[str]:
    """Put the fault into a GGUF file, and return options of the server that start it with the fault. `gguf`: folder of
    llama.cpp's own reader."""
    draw = random.Random(seed)
    layer, factor = f"blk.{draw.randrange(LAYERS)}", draw.choice([0.5, 2.0])
    if fault == "length":
        shifted = ["--no-kv-unified", "--context-shift", "--ctx-size", str(256 * PROMPTS)]
        rotated = ["--rope-scaling", "linear", "--rope-freq-scale", str(draw.choice([0.98, 0.99]))]
        return shifted if seed % 4 < 2 else rotated
    if fault == "rows":
        edit(file, gguf, [f"{layer}.attn_{draw.choice('qk')}"], _swap_heads)
    elif fault == "cache":
        part = draw.choice("kv")
        edit(file, gguf, [f"blk.{i}.attn_{part}" for i in range(LAYERS)], lambda rows: _scale(rows, factor))
    else:
        part = draw.choice(["attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"])
        edit(file, gguf, [f"{layer}.{part}"], lambda rows: _scale(rows, factor))
    return []


def edit(file: Path, gguf: Path, names: list[str], change: Callable[[Any], None]) -> None:
    """Change tensors of a GGUF file in place: bf16 numbers, or NVFP4's scale where only a factor is changed."""
    sys.path.insert(0, str(gguf))
    try:
        from gguf import GGUFReader
    finally:
        sys.path.remove(str(gguf))
    tensors = {tensor.name: tensor.data for tensor in GGUFReader(file, "r+").tensors}
    for name in names:
        scale = tensors.get(f"{name}.scale")
        change(tensors[f"{name}.weight"] if scale is None or change is _swap_heads else scale)


def _swap_heads(rows: Any) -> None:
    rows[: 2 * HEAD] = [*rows[HEAD : 2 * HEAD].copy(), *rows[:HEAD].copy()]


def _scale(values: Any, factor: float) -> None:
    """Multiply fp32 numbers, or bf16 ones that lie as bytes."""
    if values.dtype == "float32":
        values *= factor
        return
    numbers = torch.frombuffer(bytearray(values.tobytes()), dtype=torch.bfloat16) * factor
    values[:] = numbers.view(torch.uint8).numpy().reshape(values.shape).view(values.dtype)


if __name__ == "__main__":
    main()

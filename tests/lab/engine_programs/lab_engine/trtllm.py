"""`trtllm-serve` and `trtllm-build` of the lab: TensorRT-LLM's options, YAML, log lines and files around llama-server.

LAB_TRTLLM_LINE is the release line: `main` (PyTorch backend alone), or `1.2`, which builds engines and serves them.
"""

from __future__ import annotations

import json
import os
import time
from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import caches, command_line, serve_yaml, server, weights

LINES = {"1.2": "1.2.1", "main": "1.3.0rc24"}
MAGIC = b"LAB-ENGINE "
_OPS = ["trtllm::fp8_block_scaling_gemm", "trtllm::fused_moe", "trtllm::nvfp4_gemm"]


def line() -> str:
    """The release line of this image."""
    return os.environ.get("LAB_TRTLLM_LINE", "main")


def serve_main(argv: list[str]) -> int:
    """Run `trtllm-serve`; the exit code."""
    args = command_line.trtllm_serve(argv, line())
    _log(f"TensorRT LLM version: {LINES[line()]}")
    server.require_port(args.host, args.port)
    options = _options(args)
    model = Path(args.model)
    config = weights.config_of(model)
    engine_built = "pretrained_config" in config
    if engine_built and args.backend != "tensorrt":
        raise ValueError(f"{model} is a TensorRT engine: it needs --backend tensorrt, not {args.backend}")
    weights_digest = _engine_weights(model, config) if engine_built else weights.digest(model)
    gguf = weights.gguf_of(weights_digest)
    if server.fault() == "dies":
        raise RuntimeError("[TensorRT-LLM][ERROR] Assertion failed: mpiSize == tp * pp (cpp/tensorrt_llm/runtime)")
    time.sleep(0.1)
    _log("Loading weights took 0.10 seconds")
    if not engine_built:
        _warm_up(options)
    alias = vars(args).get("served_model_name") or model.resolve().name
    context = int(options.get("max_seq_len") or _context(config))
    serving = server.Serving(gguf, args.host, args.port, alias, context, min(int(options["max_batch_size"]), 8))
    return server.serve(serving, lambda: print("INFO:     Application startup complete.", flush=True), _jit)


def build_main(argv: list[str]) -> int:
    """Run `trtllm-build`; the exit code. LAB_FAULT=`short-engine` writes a third of each engine, `cut-engine` nine
    tenths, `no-engine` none: all say that they completed, as a build that ran out of memory did."""
    args = command_line.trtllm_build(argv)
    checkpoint, out = Path(args.checkpoint_dir or ""), Path(args.output_dir)
    config = weights.config_of(checkpoint)
    if "architecture" not in config or "mapping" not in config:
        raise ValueError(f"{checkpoint}/config.json is not of a TensorRT-LLM checkpoint: no architecture or mapping")
    ranks = int(config["mapping"].get("world_size", 1))
    out.mkdir(parents=True, exist_ok=True)
    time.sleep(caches.compile_seconds() / 2)
    for rank in range(ranks):
        shard = (checkpoint / f"rank{rank}.safetensors").read_bytes()
        _log(f"Build TensorRT engine Unnamed Network {rank}")
        body = MAGIC + weights.digest(checkpoint).encode() + b" %d\n" % len(shard) + shard
        if server.fault() != "no-engine":
            share = {"short-engine": 1 / 3, "cut-engine": 0.9}.get(server.fault(), 1)
            (out / f"rank{rank}.engine").write_bytes(body[: int(len(body) * share)])
    limits = ("max_batch_size", "max_input_len", "max_seq_len", "max_num_tokens", "max_beam_width")
    build_config = {name: getattr(args, name) for name in limits}
    document = {"version": LINES["1.2"], "pretrained_config": config, "build_config": build_config}
    (out / "config.json").write_text(json.dumps(document, indent=4))
    _log("Total time of building all engines: 00:00:01")
    return 0


def _options(args: Namespace) -> dict[str, Any]:
    """What the command line and the YAML say together; the YAML wins, as TensorRT-LLM's does."""
    files = vars(args).get("extra_llm_api_options") or vars(args).get("config")
    document = serve_yaml.read(Path(files)) if files else {}
    flags = {name: vars(args).get(name) for name in ("max_batch_size", "max_seq_len", "max_num_tokens")}
    merged = {**flags, **document}
    merged["max_batch_size"] = merged["max_batch_size"] or 4
    return merged


def _engine_weights(model: Path, config: dict[str, Any]) -> str:
    """Digest of the weights that an engine was built of; ValueError for a file that was cut."""
    mapping = config["pretrained_config"]["mapping"]
    named = set()
    for rank in range(int(mapping.get("world_size", 1))):
        header, _, shard = (model / f"rank{rank}.engine").read_bytes().partition(b"\n")
        words = header.removeprefix(MAGIC).decode(errors="replace").split()
        if not header.startswith(MAGIC) or len(words) != 2 or len(shard) != int(words[1]):
            raise ValueError(f"[TRT] [E] rank{rank}.engine: Serialization assertion failed: it was cut")
        named.add(words[0])
    (weights_digest,) = named
    return weights_digest


def _context(config: dict[str, Any]) -> int:
    config = config.get("pretrained_config", config)
    return int(config["max_position_embeddings"])


def _warm_up(options: dict[str, Any]) -> None:
    if options.get("enable_autotuner", True):
        _log("Running autotuner warmup...")
        path = os.environ.get("TLLM_AUTOTUNER_CACHE_PATH")
        entries, warm = caches.autotuner(Path(path) if path else None, _OPS, "NVIDIA H100 80GB HBM3", LINES[line()])
        if warm:
            _log(f"[Autotuner] Loading cache from {path}")
        _log(f"[Autotuner] Cache size after warmup is {entries}")
    caches.flashinfer("trtllm_gen_fmha", "90a")
    caches.kernels("TRITON_CACHE_DIR", "triton", "_moe_permute", "cubin")
    graphs = options.get("cuda_graph_config") or {}
    for size in graphs.get("batch_sizes") or []:
        _log(f"Run generation-only CUDA graph warmup for batch size={size}")


def _jit(number: int) -> None:
    name = f"_late_kernel_{number}"
    if not caches.kernels("TRITON_CACHE_DIR", "triton", name, "cubin"):
        _log(f"[Autotuner] No tuned tactic for {name}: tuning it now; compiling", "W")


def _log(text: str, level: str = "I") -> None:
    now = datetime.now(UTC).strftime("%m/%d/%Y-%H:%M:%S")
    print(f"[{now}] [TRT-LLM] [{level}] {text}", flush=True)

"""`vllm serve` of the lab: vLLM 0.26's options, log lines and caches around llama-server."""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import caches, command_line, server, weights

VERSION = "0.26.0"
_NOT_COMPILED = ("host", "port", "served_model_name", "model_tag", "model", "uvicorn_log_level")


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    if argv[:1] == ["--version"]:
        print(VERSION)
        return 0
    if argv[:1] != ["serve"]:
        print(f"vllm: error: argument subparser: invalid choice: {argv[:1]} (choose from 'serve')", file=sys.stderr)
        return 2
    return serve(command_line.vllm_serve(argv[1:]))


def serve(args: Namespace) -> int:
    """Load, compile or take from the caches, capture, serve."""
    started = time.monotonic()
    model = Path(args.model_tag or args.model or "")
    host, port = args.host or "0.0.0.0", args.port or 8000
    _log("api_server.py:1351", f"vLLM API server version {VERSION}")
    server.require_port(host, port)
    config = weights.config_of(model)
    context = int(args.max_model_len or config["max_position_embeddings"])
    if context > config["max_position_embeddings"]:
        raise ValueError(f"User-specified max_model_len ({context}) is greater than the derived max_model_len")
    gguf = weights.gguf_of(weights.digest(model))
    _load(config)
    _compile(args, config)
    serving = server.Serving(gguf, host, port, (args.served_model_name or [str(model)])[0], context, _slots(args))
    _graphs(args, context, started)
    return server.serve(serving, lambda: print("INFO:     Application startup complete.", flush=True), _jit)


def _slots(args: Namespace) -> int:
    return min(int(args.max_num_seqs or 4), 8)


def _load(config: dict[str, Any]) -> None:
    method = (config.get("quantization_config") or {}).get("quant_method")
    _log("model.py:1745", f"Resolved architecture: {config['architectures'][0]}, quantization={method}")
    _log("cuda.py:405", "Using FLASH_ATTN attention backend out of potential backends: ['FLASH_ATTN', 'TRITON_ATTN']")
    if server.fault() == "dies":
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    time.sleep(0.1)
    _log("default_loader.py:384", "Loading weights took 0.10 seconds")
    _log("gpu_model_runner.py:4820", "Model loading took 0.0 GiB memory and 0.100000 seconds")


def _compile(args: Namespace, config: dict[str, Any]) -> None:
    if args.enforce_eager:
        _log("vllm.py:690", "Enforce eager set, disabling torch.compile and CUDAGraphs.")
        return
    begin = time.monotonic()
    factors = {k: v for k, v in vars(args).items() if k not in _NOT_COMPILED and v is not None}
    key = caches.compile_hash([VERSION, config, factors])
    warm, entry = caches.torch_compile(key, rank=0)
    _log("backends.py:1089", f"Using cache directory: {entry} for vLLM's torch.compile")
    _log("backends.py:1148", "Dynamo bytecode transform time: 0.10 s")
    seconds = time.monotonic() - begin
    what = (
        f"Directly load the compiled graph(s) for compile range (1, 2048) from the cache, took {seconds:.3f} s"
        if warm
        else f"Compiling a graph for compile range (1, 2048) takes {seconds:.2f} s"
    )
    _log("backends.py:292", what)
    caches.kernels("TRITON_CACHE_DIR", "triton", "_topk_topp_kernel", "cubin")
    caches.kernels("CUDA_CACHE_PATH", "nv/ComputeCache", "marlin_gemm", "bin")
    caches.flashinfer("batch_prefill", "90a")
    _log("monitor.py:53", f"torch.compile took {time.monotonic() - begin:.2f} s in total")


def _graphs(args: Namespace, context: int, started: float) -> None:
    size = args.kv_cache_memory_bytes or 1 << 20
    _log("kv_cache_utils.py:2146", f"GPU KV cache size: {context * _slots(args):,} tokens ({size} bytes)")
    maximum = f"Maximum concurrency for {context:,} tokens per request: {_slots(args):.2f}x"
    _log("kv_cache_utils.py:2151", maximum)
    if not args.enforce_eager:
        time.sleep(0.1)
        _log("gpu_model_runner.py:5410", "Graph capturing finished in 0 secs, took 0.01 GiB")
    seconds = time.monotonic() - started
    _log("core.py:289", f"init engine (profile, create kv cache, warmup model) took {seconds:.2f} seconds")


def _jit(number: int) -> None:
    name = f"_late_kernel_{number}"
    if not caches.kernels("TRITON_CACHE_DIR", "triton", name, "cubin"):
        text = f"Triton kernel JIT compilation during inference: {name}. This causes a latency spike"
        _log("jit_monitor.py:103", text, "WARNING")


def _log(place: str, text: str, level: str = "INFO") -> None:
    now = datetime.now(UTC).strftime("%m-%d %H:%M:%S")
    print(f"(EngineCore_DP0 pid={os.getpid()}) {level} {now} [{place}] {text}", flush=True)

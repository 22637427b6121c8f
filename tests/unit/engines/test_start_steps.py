"""Steps of a start from logs as the engines print them; lines as in their public issues, shortened."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from slipway.engines.driver import EngineKind
from slipway.engines.start_steps import STEPS, LogWatch, compile_lines, patterns_of, step_seconds

VLLM = [
    (1.0, "INFO 06-19 23:04:50 [api_server.py:1351] vLLM API server version 0.26.0"),
    (10.0, "INFO 06-19 23:05:00 [gpu_model_runner.py:4716] Starting to load model m..."),
    (12.0, "INFO 06-19 23:05:01 [loader.py:447] Loading weights took 0.69 seconds"),
    (13.0, "INFO 06-19 23:05:01 [gpu_model_runner.py:1273] Model loading took 3.4213 GiB and 0.902026 seconds"),
    (20.0, "INFO 06-19 23:05:09 [backends.py:416] Using cache directory: /r/x for vLLM's torch.compile"),
    (21.0, "INFO 06-19 23:05:09 [backends.py:426] Dynamo bytecode transform time: 7.51 s"),
    (30.0, "INFO 06-19 23:05:18 [monitor.py:33] torch.compile takes 7.51 s in total"),
    (31.0, "INFO 06-19 23:05:18 [kv_cache_utils.py:578] GPU KV cache size: 613,024 tokens"),
    (48.0, "INFO 06-19 23:05:35 [gpu_model_runner.py:1608] Graph capturing finished in 17 secs, took 0.48 GiB"),
    (48.1, "INFO 06-19 23:05:35 [core.py:162] init engine (profile, create kv cache, warmup model) took 34.11 seconds"),
]
TRTLLM = [
    (15.0, "[12/20/2025-04:20:21] [TRT-LLM] [I] Use 63.32 GB for model weights."),
    (63.0, "Model init total -- 49.14s"),
    (64.0, "[12/20/2025-04:21:10] [TRT-LLM] [I] [Autotuner] Autotuning process starts ..."),
    (91.0, "[12/20/2025-04:21:37] [TRT-LLM] [I] Creating CUDA graph instances for 11 batch sizes."),
    (91.0, "[12/20/2025-04:21:37] [TRT-LLM] [I] Run generation only CUDA graph warmup for batch size=64, draft_len=0"),
    (104.0, "[12/20/2025-04:21:50] [TRT-LLM] [I] Memory used after loading model weights (inside torch) in ..."),
    (106.0, "[12/20/2025-04:21:52] [TRT-LLM] [I] [Autotuner] Autotuning process starts ..."),
    (107.0, "[12/20/2025-04:21:53] [TRT-LLM] [I] Creating CUDA graph instances for 11 batch sizes."),
    (111.0, "[12/20/2025-04:21:57] [TRT-LLM] [I] Setting PyTorch memory fraction to 0.5983721838660735 (71.6 GiB)"),
]
LLAMA = [
    (0.1, "0.00.000.869 I srv  llama_server: initializing ..."),
    (0.2, "0.00.003.975 I srv    load_model: loading model '/m/model.gguf'"),
    (0.5, "0.00.324.594 I srv    load_model: initializing, n_slots = 8, n_ctx_slot = 8192, kv_unified = 'true'"),
]


@pytest.mark.parametrize(
    ("kind", "lines", "ready", "expected"),
    [
        ("vllm", VLLM, 50.0, {"process": 10, "weights": 3, "compile": 18, "graphs": 17, "warm_up": 2}),
        ("trtllm", TRTLLM, 115.0, {"process": 15, "weights": 48, "compile": 29, "graphs": 17, "warm_up": 6}),
        ("llama.cpp", LLAMA, 0.6, {"process": 0.2, "weights": 0.3, "warm_up": 0.1}),
    ],
)
def test_the_steps_of_a_start(
    kind: EngineKind, lines: list[tuple[float, str]], ready: float, expected: dict[str, float]
) -> None:
    steps = step_seconds(kind, lines, 0.0, ready)
    assert steps == pytest.approx(expected)
    assert sum(steps.values()) == pytest.approx(ready)


@pytest.mark.parametrize("kind", get_args(EngineKind))
def test_a_silent_log_gives_one_step(kind: EngineKind) -> None:
    assert step_seconds(kind, [], 5.0, 7.0) == {"process": 2.0}
    assert {step for step, _ in patterns_of(kind).begins} <= set(STEPS)


def test_what_comes_after_ready_is_no_step() -> None:
    late = [(9.0, "Graph capturing finished in 1 secs")]
    assert step_seconds("vllm", late, 0.0, 8.0) == {"process": 8.0}


@pytest.mark.parametrize(
    ("kind", "line", "compiles"),
    [
        ("vllm", "[jit_monitor.py:103] Triton kernel JIT compilation during inference: _zero_kv_blocks_kernel.", True),
        ("vllm", "[jit_monitor.py:124] CuTeDSL JIT compilation during inference: FlashAttentionForwardSm100.", True),
        ("vllm", "[jit_monitor.py:60] Kernel JIT monitor activated", False),
        ("vllm", 'INFO: 127.0.0.1:5 - "POST /v1/chat/completions HTTP/1.1" 200 OK', False),
        ("trtllm", "2025-12-20 04:21:17,836 - INFO - flashinfer.jit: Loading JIT ops: norm", True),
        ("llama.cpp", "slot launch_slot_: id  7 | task 0 | processing task", False),
    ],
)
def test_lines_that_say_that_something_is_compiled(kind: EngineKind, line: str, compiles: bool) -> None:
    assert compile_lines(kind, [(0.0, line)]) == ([line] if compiles else [])


def test_a_log_is_read_on_in_whole_lines(tmp_path: Path) -> None:
    clock = iter(range(10))
    log = tmp_path / "log.txt"
    watch = LogWatch(log, clock=lambda: float(next(clock)))
    watch.look()  # no log yet
    log.write_bytes(b"one\ntw")
    watch.look()
    with log.open("ab") as file:
        file.write(b"o\n10%\r20%\n")
    watch.look()
    assert watch.lines == [(0.0, "one"), (1.0, "two"), (1.0, "10%"), (1.0, "20%")]
    log.write_bytes(b"anew\n")
    assert watch.mark() == 5
    assert watch.lines[-1][1] == "anew"

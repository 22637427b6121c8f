"""The lab's own `vllm`, `trtllm-serve` and `trtllm-build`, run as they are: they refuse what the real ones refuse,
leave the caches that the real ones leave, and answer with the model's own weights."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from slipway.system import ports
from tests.lab.engine_lab import lay_out
from tests.support.pico import pico_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pico_model(tmp_path_factory.mktemp("model") / "pico", seed=5)


@pytest.fixture(scope="module")
def engines(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out(tmp_path_factory.mktemp("engines") / "engines", [model])


def environment(cache: Path, **more: str) -> dict[str, str]:
    places = {
        "HOME": "home",
        "VLLM_CACHE_ROOT": "vllm",
        "TRITON_CACHE_DIR": "triton",
        "CUDA_CACHE_PATH": "cuda",
        "FLASHINFER_WORKSPACE_BASE": "flashinfer",
        "TLLM_AUTOTUNER_CACHE_PATH": "autotuner.json",
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**{k: str(cache / v) for k, v in places.items()}, "PATH": path, "LAB_COMPILE_S": "1", **more}


def run(engines: Path, *argv: str, cache: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """A command that is expected to end by itself."""
    return subprocess.run(
        [str(engines / "bin" / argv[0]), *argv[1:]],
        env=environment(cache, **more),
        capture_output=True,
        text=True,
        timeout=60,
    )


class Started:
    """A server of the lab, healthy."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path, seconds: float) -> None:
        self.process, self.url, self.log, self.seconds = process, url, log, seconds

    def text(self) -> str:
        return self.log.read_text()

    def answer(self, asked: str) -> str:
        body = {"messages": [{"role": "user", "content": asked}], "max_tokens": 12, "temperature": 0}
        reply = httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=60).json()
        return str(reply["choices"][0]["message"]["content"])


@contextmanager
def served(argv: list[str], cache: Path, log: Path, **more: str) -> Iterator[Started]:
    """The command with a port of the system, from its health to SIGKILL."""
    port = ports.any_port("127.0.0.1")
    begin = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*argv, "--host", "127.0.0.1", "--port", str(port)], env=environment(cache, **more), stdout=out, stderr=out
        )
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: process.poll() is not None or healthy(url), log)
        assert process.poll() is None, log.read_text()
        until(lambda: "Application startup complete" in log.read_text(), log)
        yield Started(process, url, log, time.monotonic() - begin)
    finally:
        process.kill()
        process.wait()


def healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def until(condition, log: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def vllm(engines: Path, model: Path) -> list[str]:
    return [str(engines / "bin" / "vllm"), "serve", str(model), "--max-model-len", "256", "--max-num-seqs", "2"]


def trtllm(engines: Path, model: Path) -> list[str]:
    return [str(engines / "bin" / "trtllm-serve"), "serve", str(model), "--max_seq_len", "256", "--max_batch_size", "2"]


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (("vllm", "serve", "m", "--no-such-flag"), "unrecognized arguments: --no-such-flag"),
        (("vllm", "serve", "m", "--max-model-len", "long"), "argument --max-model-len: invalid"),
        (("vllm", "serve", "m", "--kv-cache-dtype", "int3"), "invalid choice: 'int3'"),
        (("vllm", "bench"), "invalid choice"),
        (("trtllm-serve", "m", "--max-batch-size", "2"), "unrecognized arguments: --max-batch-size"),
        (("trtllm-serve", "m", "--backend", "tensorrt"), "invalid choice: 'tensorrt'"),
        (("trtllm-build", "--tp_size", "2"), "unrecognized arguments: --tp_size"),
    ],
)
def test_an_unknown_option_or_value_ends_the_program(engines: Path, tmp_path: Path, argv, reason: str) -> None:
    ended = run(engines, *argv, cache=tmp_path)
    assert (ended.returncode, reason in ended.stderr) == (2, True), ended.stderr


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("max_seqlen: 3", "max_seqlen\n  Extra inputs are not permitted"),
        ("kv_cache_config: {fraction: 0.3}", "kv_cache_config.fraction\n  Extra inputs"),
        ("cuda_graph_config: {sizes: [1]}", "cuda_graph_config.sizes\n  Extra inputs"),
        ("moe_config: {kernel: CUTLASS}", "moe_config.kernel\n  Extra inputs"),
        ("max_batch_size: many", "max_batch_size\n  Input should be a valid int"),
    ],
)
def test_an_unknown_key_of_the_yaml_ends_trtllm_serve(engines, model, tmp_path, document: str, reason: str) -> None:
    (tmp_path / "serve.yaml").write_text(document)
    port = str(ports.any_port("127.0.0.1"))
    config = str(tmp_path / "serve.yaml")
    ended = run(engines, "trtllm-serve", str(model), "--port", port, "--config", config, cache=tmp_path)
    assert (ended.returncode, reason in ended.stderr) == (1, True), ended.stderr


def test_vllm_starts_cold_then_warm_and_answers_with_the_models_weights(engines, model, tmp_path) -> None:
    argv, cache = vllm(engines, model), tmp_path / "cache"
    with served(argv, cache, tmp_path / "cold.log") as cold:
        first = cold.answer("turn on the light")
        cold.process.send_signal(signal.SIGTERM)
        assert cold.process.wait(120) == 0
    with served(argv, cache, tmp_path / "warm.log") as warm:
        assert warm.answer("turn on the light") == first
    assert "Compiling a graph for compile range" in cold.text() and "Directly load" not in cold.text()
    assert "Directly load the compiled graph(s)" in warm.text() and "Compiling" not in warm.text()
    assert list(cache.glob("vllm/torch_compile_cache/*/rank_0_0/backbone/vllm_compile_cache.py"))
    assert list(cache.glob("triton/*/*.cubin")) and list(cache.glob("cuda/*/*.bin"))
    assert list(cache.glob("flashinfer/.cache/flashinfer/*/90a/cached_ops/*/*.so"))


def test_a_truncated_compile_entry_breaks_the_next_start(engines, model, tmp_path) -> None:
    argv, cache = vllm(engines, model), tmp_path / "cache"
    with served(argv, cache, tmp_path / "cold.log"):
        pass
    artifact = next(cache.glob("vllm/torch_compile_cache/*/*/backbone/artifact*"))
    artifact.write_bytes(artifact.read_bytes()[:100])
    port = str(ports.any_port("127.0.0.1"))
    ended = run(engines, *["vllm", *argv[1:]], "--port", port, cache=cache)
    assert (ended.returncode, "EOFError: Ran out of input" in ended.stderr) == (1, True)


def test_flashinfer_builds_again_what_is_older_than_its_source(engines, model, tmp_path) -> None:
    argv, cache = vllm(engines, model), tmp_path / "cache"
    with served(argv, cache, tmp_path / "cold.log"):
        pass
    built = next(cache.glob("flashinfer/.cache/flashinfer/*/*/cached_ops/*/*.so"))
    os.utime(built, (1, 1))
    with served(argv, cache, tmp_path / "warm.log"):
        assert built.stat().st_mtime > 1


def test_trtllm_takes_any_autotuner_file_without_a_look_at_its_device(engines, model, tmp_path) -> None:
    argv, cache = trtllm(engines, model), tmp_path / "cache"
    with served(argv, cache, tmp_path / "cold.log") as cold:
        first = cold.answer("lights")
    file = cache / "autotuner.json"
    tactics = json.loads(file.read_text())
    tactics["metadata"]["device_name"] = "another GPU"
    file.write_text(json.dumps(tactics))
    with served(argv, cache, tmp_path / "warm.log") as warm:
        assert warm.answer("lights") == first
    assert "[Autotuner] Loading cache from" in warm.text() and "Loading cache" not in cold.text()


def test_garbage_answers_with_status_200(engines, model, tmp_path) -> None:
    with served(vllm(engines, model), tmp_path, tmp_path / "right.log") as right:
        wanted = right.answer("turn on the light")
    with served(vllm(engines, model), tmp_path, tmp_path / "wrong.log", LAB_FAULT="garbage") as wrong:
        assert wrong.answer("turn on the light") != wanted


def test_a_server_that_compiles_while_serving_says_so_for_its_first_requests(engines, model, tmp_path) -> None:
    with served(vllm(engines, model), tmp_path, tmp_path / "log", LAB_FAULT="compiles") as server:
        for number in range(4):
            server.answer(f"request {number}")
        until(lambda: "_late_kernel_3" in server.text(), server.log)
    assert "_late_kernel_4" not in server.text()
    assert server.text().count("JIT compilation during inference") == 3


def test_a_server_that_ignores_sigterm_lives_and_takes_llama_server_along_when_killed(engines, model, tmp_path) -> None:
    with served(vllm(engines, model), tmp_path, tmp_path / "log", LAB_FAULT="ignores-sigterm") as server:
        server.process.send_signal(signal.SIGTERM)
        until(lambda: "Waiting for background tasks" in server.text(), server.log)
        assert server.process.poll() is None and healthy(server.url)
        server.process.kill()
        until(lambda: not healthy(server.url), server.log)


def test_what_cannot_be_served_ends_the_program(engines, model, tmp_path) -> None:
    other = pico_model(tmp_path / "other", seed=6)
    free = ("--port", str(ports.any_port("127.0.0.1")))
    unknown = run(engines, "vllm", "serve", str(other), *free, cache=tmp_path)
    died = run(engines, "vllm", "serve", str(model), *free, cache=tmp_path, LAB_FAULT="dies")
    assert (unknown.returncode, "serves only what it was built with" in unknown.stderr) == (1, True)
    assert (died.returncode, "illegal memory access" in died.stderr) == (1, True)


def test_trtllm_build_writes_engines_that_its_server_serves(engines, model, tmp_path) -> None:
    checkpoint, out = tmp_path / "checkpoint", tmp_path / "engine"
    checkpoint.mkdir()
    shutil.copy(model / "model.safetensors", checkpoint / "rank0.safetensors")
    config = {
        "architecture": "LlamaForCausalLM",
        "mapping": {"world_size": 1, "tp_size": 1},
        "max_position_embeddings": 512,
    }
    (checkpoint / "config.json").write_text(json.dumps(config))
    build = ("trtllm-build", "--checkpoint_dir", str(checkpoint), "--output_dir", str(out), "--max_seq_len", "256")
    assert run(engines, *build, cache=tmp_path).returncode == 0
    assert json.loads((out / "config.json").read_text())["build_config"]["max_seq_len"] == 256
    argv = [str(engines / "bin" / "trtllm-serve"), str(out), "--backend", "tensorrt"]
    with served(argv, tmp_path, tmp_path / "log", LAB_TRTLLM_LINE="1.2") as server:
        assert server.answer("lights")
    for fault, left in (("short-engine", ["config.json", "rank0.engine"]), ("no-engine", ["config.json"])):
        shutil.rmtree(out)
        ended = run(engines, *build, cache=tmp_path, LAB_FAULT=fault)
        assert (ended.returncode, sorted(p.name for p in out.iterdir())) == (0, left)

"""The real engine: llama.cpp converts and serves what Slipway writes. The first run on a machine builds
llama-server."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.kernel_agreement import llama_server
from slipway.agent import ports
from slipway.config.load import load_config
from slipway.config.quantize import CalibrationConfig, QuantizeConfig
from slipway.config.store import StoreConfig
from slipway.config.target import TargetConfig
from slipway.engines.bundle import read_plan
from slipway.engines.chat_client import ChatClient
from slipway.engines.llamacpp.build import build_id, find_tools
from slipway.engines.llamacpp.reasoning import reasoning_options
from slipway.engines.serving import Service, serve, service_of, serving
from slipway.errors import CheckpointError, EngineError, ResourceError
from slipway.pipeline.workspace import Workspace
from slipway.stages.engine import EngineParams, engine
from slipway.stages.evaluate import PARTIAL, EvaluateParams, evaluate
from slipway.stages.quantize import quantize
from slipway.store.artifacts import Adapter, Artifact, Checkpoint, Dataset, Engine, Quantized
from slipway.store.store import Store, load
from slipway.system.files import sha256_file
from slipway.system.progress import Progress
from slipway.weights.checkpoint import materialize, write_virtual
from tests.support import chat_tokenizers
from tests.support.pico import pico_adapter, pico_model

CACHE = Path(StoreConfig().cache).expanduser()
PARAMS = EngineParams(context=512, slots=2, threads=1)
SAID = "turn on the light in the kitchen"


A = TypeVar("A", bound=Artifact)


def put(store: Store, cls: type[A], key: str, fill: Callable[[Path], object]) -> A:
    with store.create(cls, key, {}) as out:
        fill(out)
    return load(cls, store.dir(cls.kind, key))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def base(store: Store) -> Checkpoint:
    return put(store, Checkpoint, "base", lambda out: pico_model(out, seed=3))


@pytest.fixture(scope="module")
def served(store: Store, base: Checkpoint) -> Engine:
    return make_engine(store, base, "base")


@pytest.fixture(scope="module")
def data(store: Store) -> Dataset:
    rows = [
        {
            "id": f"r{i}",
            "label": "On",
            "template": f"t{i}",
            "messages": [
                {"role": "user", "content": f"{SAID} {i}"},
                {"role": "assistant", "content": '{"intent":"On"}'},
            ],
        }
        for i in range(8)
    ]
    text = "".join(json.dumps(r) + "\n" for r in rows)
    files = {"train.jsonl": text, "test.jsonl": text, "summary.json": json.dumps({"label_key": "intent"})}
    return put(store, Dataset, "data", lambda out: [(out / name).write_text(files[name]) for name in files])


def make_engine(store: Store, checkpoint: Checkpoint | Quantized, key: str) -> Engine:
    with store.create(Engine, key, {}) as out:
        engine(checkpoint, PARAMS, space(store, out, key))
    return load(Engine, store.dir(Engine.kind, key))


def space(store: Store, out: Path, key: str, progress: Progress | None = None) -> Workspace:
    work = store.root / "work" / key
    work.mkdir(parents=True, exist_ok=True)
    return Workspace(out, work, CACHE, progress or Progress())


def tokens_of(made: Engine, log: Path, prompt: list[int], count: int) -> list[int]:
    """Greedy tokens by llama-server, going on past the end token; random weights say tokens that have no text."""
    with serving(service_of(made.path, TargetConfig(), log)) as server:
        body = {"prompt": prompt, "n_predict": count, "temperature": 0, "ignore_eos": True, "return_tokens": True}
        answer = httpx.post(f"{server.base}/completion", json=body, timeout=120, trust_env=False)
    return list(answer.raise_for_status().json()["tokens"])


def prompt_of(model_dir: Path) -> list[int]:
    """Token ids of the chat prompt, by transformers."""
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    return list(
        tokenizer.apply_chat_template([{"role": "user", "content": SAID}], add_generation_prompt=True)["input_ids"]
    )


def transformers_says(model_dir: Path, prompt: list[int], count: int) -> list[int]:
    """Greedy tokens by transformers in fp32."""
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(count):
            logits = model(torch.tensor([ids])).logits[0, -1]
            logits[model.config.eos_token_id] = -torch.inf
            ids.append(int(logits.argmax()))
    return ids[len(prompt) :]


def test_the_engine_reads_and_says_what_transformers_does(base: Checkpoint, served: Engine, tmp_path: Path) -> None:
    prompt = prompt_of(base.path)
    assert tokens_of(served, tmp_path / "log", prompt, 8) == transformers_says(base.path, prompt, 8)
    with (
        serving(service_of(served.path, TargetConfig(), tmp_path / "log")) as server,
        ChatClient(server.url, server.model, 30) as client,
    ):
        answer = client.ask([{"role": "user", "content": SAID}], 4, fixed_length=True)
    assert (answer.prompt_tokens, answer.completion_tokens, answer.finish) == (len(prompt), 4, "length")
    assert served.summary["bytes"] == (served.path / "model.gguf").stat().st_size


@pytest.mark.parametrize("name", ["QWEN3_ON", "QWEN3_OFF", "QWEN3_THINKING", "CHATML"])
def test_the_engine_asks_with_the_prompt_that_was_learnt_with(served: Engine, tmp_path: Path, name: str) -> None:
    """llama-server decides by itself whether a model reasons; a bundle's options say what the template says."""
    tokenizer = chat_tokenizers.tokenizer_of(chat_tokenizers.FAMILIES["qwen3"])
    tokenizer.chat_template = getattr(chat_tokenizers, name)
    tokenizer.save_pretrained(str(tmp_path))
    asked = [{"role": "user", "content": SAID}]
    (tmp_path / "model.gguf").symlink_to(served.path / "model.gguf")
    options = ["--chat-template-file", str(tmp_path / "chat_template.jinja"), *reasoning_options(tmp_path)]
    with llama_server(served.path / "llama-server", tmp_path / "model.gguf", options) as url:
        answer = httpx.post(f"{url.removesuffix('/v1')}/apply-template", json={"messages": asked}, timeout=60)
    assert answer.json()["prompt"] == tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)


def test_equal_weights_give_equal_bytes(store: Store, base: Checkpoint, served: Engine) -> None:
    again = make_engine(store, base, "again")
    assert sha256_file(again.path / "model.gguf") == sha256_file(served.path / "model.gguf")
    assert not (store.root / "work" / "again" / "model").exists()


def test_a_virtual_checkpoint_is_served_as_its_materialized_twin(
    store: Store, base: Checkpoint, served: Engine
) -> None:
    adapter = put(store, Adapter, "adapter", pico_adapter)

    def virtual(out: Path) -> None:
        pico_model(out, seed=3)
        (out / "model.safetensors").unlink()
        write_virtual(out, base, adapter)

    merged = put(store, Checkpoint, "merged", virtual)
    plain = put(store, Checkpoint, "plain", lambda out: materialize(merged, out, Progress()))
    one, two = make_engine(store, merged, "merged"), make_engine(store, plain, "plain")
    assert sha256_file(one.path / "model.gguf") == sha256_file(two.path / "model.gguf")
    assert sha256_file(one.path / "model.gguf") != sha256_file(served.path / "model.gguf")
    assert not (store.root / "work" / "merged" / "model").exists()


def dequantized(source: Path, out: Path) -> Path:
    """An fp32 twin of a ModelOpt-layout directory, by the formats' definitions: E2M1 x E4M3 block scale x global scale;
    E4M3 x scale of the tensor or of the channel."""
    shutil.copytree(source, out)
    tensors = load_file(source / "model.safetensors")
    e2m1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    table = torch.cat([e2m1, -e2m1])
    plain = {name: t.float() for name, t in tensors.items() if t.dtype == torch.bfloat16}
    for name, t in tensors.items():
        if t.dtype == torch.uint8:
            codes = torch.stack([t & 15, t >> 4], -1).flatten(1).long()  # low nibble first
            scale = tensors[f"{name}_scale"].float() * tensors[f"{name}_scale_2"]
            plain[name] = table[codes] * scale.repeat_interleave(16, 1)
        elif t.dtype == torch.float8_e4m3fn and name.endswith(".weight"):
            scale = tensors[f"{name}_scale"]
            plain[name] = t.float() * (scale.unsqueeze(1) if scale.dim() else scale)
    save_file(plain, out / "model.safetensors", {"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    config.pop("quantization_config", None)
    (out / "config.json").write_text(json.dumps(config))
    return out


@pytest.mark.parametrize("kind", ["nvfp4", "nvfp4a16", "fp8", "fp8-dynamic"])
def test_the_engine_reads_our_quantized_bytes_as_we_mean_them(
    store: Store, base: Checkpoint, data: Dataset, served: Engine, tmp_path: Path, kind: Any
) -> None:
    params = QuantizeConfig(format=kind, calibration=CalibrationConfig(samples=4, length=64))
    with store.create(Quantized, kind, {}) as out:
        quantize(base, data, params, space(store, out, f"quantize-{kind}"))
    quantized = load(Quantized, store.dir(Quantized.kind, kind))
    made = make_engine(store, quantized, kind)
    prompt = prompt_of(base.path)
    twin = dequantized(quantized.path, tmp_path / "twin")
    assert tokens_of(made, tmp_path / "log", prompt, 4) == transformers_says(twin, prompt, 4)
    if kind.startswith("nvfp4"):
        assert made.summary["bytes"] < served.summary["bytes"]


def test_evaluate_serves_scores_and_measures(store: Store, served: Engine, data: Dataset, tmp_path: Path) -> None:
    params = EvaluateParams(max_new_tokens=8, speed=True, concurrency=[1, 2], speed_requests=4)
    evaluate(served, data, params, space(store, tmp_path, "evaluate"))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["n"] == 8
    exact = metrics["metrics"][0]
    assert (exact["name"], exact["value"]) == ("json_exact", 0)  # random weights
    assert exact["high"] > 0
    speed = json.loads((tmp_path / "speed.json").read_text())
    assert [run["concurrency"] for run in speed] == [1, 2]
    for run in speed:  # equal work: every answer has its full length
        assert (run["short"], run["errors"], run["counted_by"]) == (0, 0, "server")


class KillsTheServer(Progress):
    """Kills llama-server after the second item, once. No more than the engine's slots are asked meanwhile: an item is
    reported before the next is asked."""

    def update(self, what: str, done: float, total: float | None, unit: str, **figures: float) -> None:
        if what == "evaluate" and done == 2:
            for child in psutil.Process().children():
                if child.name() == "llama-server":
                    child.kill()
                    child.wait()


def test_an_engine_killed_in_the_middle_is_an_error_and_nothing_answered_is_lost(
    store: Store, served: Engine, data: Dataset, tmp_path: Path
) -> None:
    params = EvaluateParams(max_new_tokens=8)
    with pytest.raises(EngineError, match="died"):
        evaluate(served, data, params, space(store, tmp_path, "killed", KillsTheServer()))
    kept = answers(store.root / "work" / "killed" / PARTIAL)
    assert 2 <= len(kept) <= 2 + PARAMS.slots
    evaluate(served, data, params, space(store, tmp_path, "killed"))
    items = answers(tmp_path / "items.jsonl")
    assert len(items) == 8
    assert kept.items() <= items.items()


def answers(file: Path) -> dict[str, str]:
    """Item -> its answer; values of the whole test set are not in a partial file yet."""
    return {item["id"]: item["answer"] for item in map(json.loads, file.read_text().split("\n")[:-1])}


@pytest.fixture
def busy() -> Iterator[int]:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        yield s.getsockname()[1]


def on_port(made: Engine, port: int, work: Path) -> Service:
    return Service(made.path, read_plan(made.path), TargetConfig(), work, port=port)


def test_a_busy_port_is_named(served: Engine, busy: int, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=f"port {busy}"):
        serve(on_port(served, busy, tmp_path / "work"))


def test_a_port_taken_in_between_is_named_too(
    served: Engine, busy: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([True])
    real = ports.is_free
    monkeypatch.setattr(ports, "is_free", lambda host, port: next(looks, False) or real(host, port))
    with pytest.raises(ResourceError, match=f"port {busy}"):
        serve(on_port(served, busy, tmp_path / "work"))


def test_a_damaged_model_file_shows_the_servers_words(served: Engine, tmp_path: Path) -> None:
    for file in served.path.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "model.gguf").unlink()
    (tmp_path / "model.gguf").write_bytes((served.path / "model.gguf").read_bytes()[:5000])
    with (
        pytest.raises(EngineError, match=r"(?si)died.*error"),
        serving(service_of(tmp_path, TargetConfig(), tmp_path / "w")),
    ):
        pass


def test_a_missing_model_and_a_cut_shard_are_named(store: Store, base: Checkpoint, tmp_path: Path) -> None:
    def cut(out: Path) -> None:
        pico_model(out)
        shard = out / "model.safetensors"
        shard.write_bytes(shard.read_bytes()[:-100])

    broken = [
        (put(store, Checkpoint, "cut", cut), "bytes, by its header"),
        (Checkpoint(uri=str(tmp_path / "nowhere"), digest="0" * 64), "missing"),
    ]
    for checkpoint, words in broken:
        with pytest.raises(CheckpointError, match=words):
            make_engine(store, checkpoint, "broken")
    assert not store.dir(Engine.kind, "broken").exists()


def test_an_architecture_that_llama_cpp_does_not_know_is_named(store: Store, tmp_path: Path) -> None:
    def strange(out: Path) -> None:
        pico_model(out)
        config = json.loads((out / "config.json").read_text())
        (out / "config.json").write_text(json.dumps({**config, "architectures": ["SlipwayForNothing"]}))

    with pytest.raises(EngineError, match="SlipwayForNothing"):
        make_engine(store, put(store, Checkpoint, "strange", strange), "strange")


def test_build_engine_names_the_build_that_runs_will_use() -> None:
    done = subprocess.run([sys.executable, "-m", "slipway", "build-engine"], capture_output=True, text=True, check=True)
    config = load_config(Path("conf"))
    assert done.stdout.strip() == build_id(config.engine, find_tools())


def test_rows_with_tools_are_asked_with_them_and_scored_by_their_calls(
    store: Store, served: Engine, tmp_path: Path
) -> None:
    call = {"type": "function", "function": {"name": "lamp", "arguments": {"on": True}}}
    tool = {"type": "function", "function": {"name": "lamp", "parameters": {"type": "object", "properties": {}}}}
    row = {"id": "r", "label": "all", "template": "t", "tools": [tool]}
    row["messages"] = [
        {"role": "user", "content": SAID},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]
    summary = json.dumps({"label_key": None, "longest_answer_tokens": 4})
    files = {"test.jsonl": json.dumps(row) + "\n", "summary.json": summary}
    data = put(store, Dataset, "tools", lambda out: [(out / name).write_text(files[name]) for name in files])
    evaluate(served, data, EvaluateParams(), space(store, tmp_path, "tools"))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["task"]["kind"] == "tools"
    assert [(m["name"], m["value"]) for m in metrics["metrics"]] == [("tool_calls", 0), ("tool_names", 0)]

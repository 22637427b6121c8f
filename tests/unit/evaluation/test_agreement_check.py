"""A whole check against an engine whose answers are known: transformers itself, healthy or wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from slipway.config.engine import AgreementConfig
from slipway.engines.driver import Limits, ServePlan
from slipway.errors import CheckpointError, EngineError, ResourceError
from slipway.evaluation.agreement_check import Agreeing, agreement_figures, rounding_of
from slipway.store.artifacts import Checkpoint, Quantized
from slipway.system.progress import Progress
from tests.support.pico import pico_model
from tests.support.streaming import quantized

FEW = AgreementConfig(check="on", prompts=2, tokens=30)


def plan(kind: str = "vllm", context: int = 512, **fields: Any) -> ServePlan:
    return ServePlan.model_validate(
        {"kind": kind, "argv": ["x"], "limits": Limits(context=context, slots=2), "computes": "bf16", **fields}
    )


@contextmanager
def engine_of(write: Callable[[list[int], int], dict[str, Any]]) -> Iterator[str]:
    """An engine that answers `/v1/completions` by `write(prompt, tokens)`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            data = json.dumps({"choices": [write(body["prompt"], body["max_tokens"])]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def transformers_engine(model_dir: Path) -> Callable[[list[int], int], dict[str, Any]]:
    """Greedy in bf16, as vLLM computes, with the format of its answers."""
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.bfloat16).eval()
    turn = threading.Lock()

    @torch.no_grad()
    def write(prompt: list[int], tokens: int) -> dict[str, Any]:
        with turn:
            ids, values = list(prompt), []
            for _ in range(tokens):
                row = model(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)
                ids.append(int(row.argmax()))
                values.append(float(row[ids[-1]]))
        return {"token_ids": ids[len(prompt) :], "logprobs": {"token_logprobs": values}}

    return write


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pico_model(tmp_path_factory.mktemp("agreement") / "model", layers=2)


def checkpoint(path: Path, kind: type[Checkpoint | Quantized] = Checkpoint) -> Checkpoint | Quantized:
    return kind(uri=str(path), digest="0" * 64)


def ask_engine(weights: Checkpoint | Quantized, served: ServePlan, url: str, params: AgreementConfig) -> Any:
    """What an engine answers, or why it was not asked."""
    agreeing = Agreeing(weights, served, params, Progress())
    agreeing.ask(url)
    return agreeing.answers


def verdict_on(answers: Any, weights: Checkpoint | Quantized, served: ServePlan, params: AgreementConfig) -> Any:
    """The verdict of these weights on an engine's answers."""
    agreeing = Agreeing(weights, served, params, Progress())
    agreeing.answers = answers
    return agreeing.verdict()


def test_a_healthy_engine_passes_and_a_wrong_one_is_named(model: Path, tmp_path: Path) -> None:
    with engine_of(transformers_engine(model)) as url:
        answers = ask_engine(checkpoint(model), plan(), url, FEW)
    verdict = verdict_on(answers, checkpoint(model), plan(), FEW)
    assert (verdict["outcome"], verdict["tokens"]) == ("pass", 60)
    assert agreement_figures(verdict)["agreement_ratio"] == verdict["ratio"] < 3
    wrong = pico_model(tmp_path / "wrong", layers=2)
    tensors = load_file(wrong / "model.safetensors")
    tensors["model.layers.0.mlp.down_proj.weight"] *= 2
    save_file(tensors, wrong / "model.safetensors", {"format": "pt"})
    with pytest.raises(EngineError, match="kernel agreement"):
        verdict_on(answers, checkpoint(wrong), plan(), FEW)


def test_a_quantized_checkpoint_is_compared_with_its_own_values(model: Path, tmp_path: Path) -> None:
    made = quantized(model, tmp_path / "made", format="nvfp4a16")
    with engine_of(transformers_engine(model)) as url:  # an engine that forgot to quantize
        answers = ask_engine(checkpoint(model), plan(), url, FEW)
    with pytest.raises(EngineError, match="kernel agreement"):
        verdict_on(answers, checkpoint(made, Quantized), plan(computes="W4A16 NVFP4"), FEW)


def test_what_cannot_be_checked_is_an_error_where_it_must_be_and_noted_where_it_may(model: Path) -> None:
    auto = AgreementConfig(prompts=1, tokens=24)
    with engine_of(lambda *_: {"text": "no ids"}) as url:
        answers = ask_engine(checkpoint(model), plan(), url, auto)
        assert "no token ids" in str(answers)
        with pytest.raises(EngineError, match="no token ids"):
            ask_engine(checkpoint(model), plan(), url, FEW)
    verdict = verdict_on(answers, checkpoint(model), plan(), auto)
    assert agreement_figures(verdict) == {"agreement": "not checked"} and "no token ids" in verdict["refused"]
    short = plan(context=60)
    assert "engine.context" in str(ask_engine(checkpoint(model), short, "http://127.0.0.1:1/v1", auto))
    with pytest.raises(ResourceError, match=r"engine\.context"):
        ask_engine(checkpoint(model), short, "http://127.0.0.1:1/v1", FEW)


def test_off_asks_nobody(model: Path) -> None:
    off = AgreementConfig(check="off")
    answers = ask_engine(checkpoint(model), plan(), "http://127.0.0.1:1/v1", off)
    assert verdict_on(answers, checkpoint(model), plan(), off) == {"refused": "engine.agreement.check=off"}


def test_a_model_that_cannot_be_walked(model: Path, tmp_path: Path) -> None:
    with engine_of(transformers_engine(model)) as url:
        answers = ask_engine(checkpoint(model), plan(), url, FEW)
    strange = pico_model(tmp_path / "strange", layers=2)
    config = json.loads((strange / "config.json").read_text())
    (strange / "config.json").write_text(json.dumps({**config, "model_type": "nobody_knows"}))
    with pytest.raises(CheckpointError):
        verdict_on(answers, checkpoint(strange), plan(), FEW)
    verdict = verdict_on(answers, checkpoint(strange), plan(), AgreementConfig())
    assert "nobody_knows" in verdict["refused"]


@pytest.mark.parametrize(
    ("fields", "formats", "expected", "noted"),
    [
        ({"kind": "llama.cpp"}, ["bf16"], ("bf16", "bf16", "fp16", "none"), False),
        ({"kind": "llama.cpp"}, ["nvfp4a16"], ("bf16", "q8_0", "fp16", "none"), False),
        ({}, ["bf16"], ("bf16", "bf16", "bf16", "bf16"), False),
        ({"computes": "fp16"}, ["fp16"], ("fp16", "fp16", "fp16", "fp16"), False),
        ({"computes": "W4A4 NVFP4"}, ["nvfp4"], ("bf16", "nvfp4", "bf16", "bf16"), False),
        ({"computes": "W4A16 NVFP4"}, ["nvfp4"], ("bf16", "bf16", "bf16", "bf16"), False),
        ({"computes": "W8A8 FP8"}, ["fp8"], ("bf16", "fp8", "bf16", "bf16"), False),
        ({"computes": "W8A8 FP8 in blocks"}, ["fp8-block"], ("bf16", "bf16", "bf16", "bf16"), True),
    ],
)
def test_what_is_rounded_follows_from_what_computes(
    fields: dict[str, Any], formats: list[str], expected: tuple[str, ...], noted: bool
) -> None:
    rounding, note = rounding_of(plan(**{"kind": "vllm", **fields}), formats)
    assert (rounding.inputs, rounding.quantized, rounding.attention, rounding.results) == expected
    assert bool(note) == noted
    fp8 = plan(limits=Limits(context=512, slots=2, kv_dtype="fp8_e4m3"))
    assert rounding_of(fp8, ["bf16"])[0].attention == "fp8-token"

"""What is said of a target before anything is made for it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from slipway.config.load import Config, load_config
from slipway.ops.preflight.target_checks import host_key, serving_checks, serving_fit, target_checks

LLAMA_8B = ("layers.model=models/llama-3.1-8b", "layers.serving=targets/spark", "layers.engine=engine/vllm")


def config(*overrides: str) -> Config:
    return load_config(overrides=list(overrides))


def test_a_local_target_needs_a_free_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (row,) = target_checks(config(f"deploy.ports=[{port},{port}]", "deploy.proxy.kind=none"), 0)
    assert row.status == "fail" and f"0 of 1 free in {port}..{port}" in row.finding


def test_a_target_that_is_chosen_later_is_not_asked() -> None:
    assert [row.finding for row in target_checks(config("layers.deploy=deploy/auto"), 0)][-1].startswith("chosen by")


def test_format_and_memory_of_a_serving_gpu_are_the_rows_own() -> None:
    rows = {row.name.partition(":")[0]: row for row in serving_checks(config(*LLAMA_8B))}
    assert rows["format nvfp4a16"].finding == "vllm on sm_121 runs it"
    assert "of 108.0 GB: fits" in rows["GPU memory"].finding
    big = list(serving_checks(config(*LLAMA_8B, "engine.slots=4096", "engine.context=32768")))[-1]
    assert big.status == "fail" and "does not fit" in big.finding and "slipway capacity" in big.advice
    trt = next(iter(serving_checks(config(*LLAMA_8B, "layers.engine=engine/trtllm"))))
    assert trt.status == "fail" and "fp8" in trt.advice


def test_a_probed_limit_is_the_limit() -> None:
    assert serving_fit(config(*LLAMA_8B, "serving.usable_gb=7")).fits is False
    assert serving_fit(config(*LLAMA_8B)).fits


def test_a_cache_that_nobody_knows_is_no_number(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    (tmp_path / "m.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    model = (f"model.directory={tmp_path}", "model.source=directory")
    with_sizes = '{"model_type": "mamba", "vocab_size": 10, "hidden_size": 8, "num_attention_heads": 2}'
    (tmp_path / "config.json").write_text(with_sizes)
    answer = serving_fit(config(*LLAMA_8B, *model))
    assert not answer.fits and str(answer) == "cannot tell: model_type 'mamba'"


def test_a_host_whose_key_nobody_compared_fails(tmp_path: Path) -> None:
    ssh = config("layers.deploy=deploy/spark", f"deploy.ssh.known_hosts={tmp_path / 'none'}").deploy.ssh
    assert ssh
    row = host_key("target spark", ssh)
    assert row.status == "fail" and "slipway target set-up" in row.advice


def test_a_target_that_does_not_answer_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ("layers.deploy=deploy/spark", "deploy.ssh.host=127.0.0.1", "deploy.ssh.port=1")
    rows = {row.name: row for row in target_checks(load_config(Path(__file__).parents[4] / "conf", list(settings)), 0)}
    assert rows["agent"].status == "fail" and rows["agent"].machine == "target spark"

"""What is refused before any work: by the config alone, without data, without a machine."""

import sys

import pytest

from slipway.config.load import load_config
from slipway.errors import ConfigError, EngineError, ResourceError
from slipway.ops.preflight.config_rules import refuse_early


def config(*overrides):
    return load_config(overrides=list(overrides))


NEMO = (
    "layers.train=train/nemo-qlora",
    "layers.target=targets/spark",
    f"images.nemo-automodel.digests.arm64=sha256:{'2' * 64}",
)


def test_the_default_and_a_pinned_image_pass():
    refuse_early(config())
    refuse_early(config(*NEMO))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("gate.floors.exact_mach=0.5",), r"gate\.floors\.exact_mach: no metric"),
        (("evaluate.metrics=[judge]",), r"evaluate\.judge: null"),
        (("rag.answers.items=4",), r"rag\.answers: without rag\.arm"),
        (("rag.answers.context_tokens=4096", "rag.arm=window/bm25"), r"room for the question.*engine\.context"),
        (("gate.floors.answer_f1=0.1", "rag.arm=window/bm25"), r"rag\.answers=\{\} evaluates answers"),
        (("gate.floors.rag_recall=0.1",), r"layers\.rag=rag/embedded, or rag\.arm"),
        (("train.tensor_parallel=2",), "qlora with"),
        (
            ("target.runner.image=other", "images.other.repository=reg.io/a", "images.other.tag=v1"),
            r"reg\.io/a.*digest.*slipway pin",
        ),
        (
            ("target.runner.image=nemo",),
            r"target\.runner\.image: nemo; expected a row of conf/images\.yaml \(nemo-automodel, vllm",
        ),
    ],
)
def test_what_cannot_end_well_is_refused_before_any_work(overrides, message):
    with pytest.raises(ConfigError, match=message):
        refuse_early(config(*NEMO, *overrides))


def test_a_container_engine_that_is_not_installed_is_named_before_any_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "slipway.runners.docker", None)
    with pytest.raises(ResourceError, match=r"python package docker"):
        refuse_early(config(*NEMO))


def test_the_embedded_trainer_asks_nothing_of_a_target(monkeypatch):
    monkeypatch.setitem(sys.modules, "slipway.runners.docker", None)
    refuse_early(config("layers.train=train/qlora-cpu", "layers.target=targets/spark"))


def test_a_model_that_the_embedded_engine_computes_wrongly_is_refused_before_any_work(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}')
    model = ("model.source=directory", f"model.directory={tmp_path}", "model.name=m")
    with pytest.raises(EngineError, match="Qwen2ForCausalLM in NVFP4"):
        refuse_early(config(*model))
    refuse_early(config(*model, "layers.quantize=formats/fp8-dynamic"))
    refuse_early(config(*model, "engine.kind=vllm"))
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    refuse_early(config(*model))

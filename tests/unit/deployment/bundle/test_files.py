"""Which files ship in which layers, with which modes and times; what is left out is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.deployment.bundle.files import Part, document_parts, engine_parts
from slipway.errors import BundleError
from slipway.store.store import Store
from tests.support.shippable import checkpoint, gpu_engine
from tests.support.target import make_engine


def listed(parts: list[Part]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for part in parts:
        names.setdefault(part.name, []).extend(f.member.name.removeprefix("models/") for f in part.files)
    return names


def test_a_gpu_engine_ships_its_checkpoint(tmp_path: Path) -> None:
    store = Store(tmp_path)
    parts, notes = engine_parts(gpu_engine(store, "e", checkpoint(store, "q")))
    names = listed(parts)
    assert names["serve-config"] == ["engine/serve.json"]
    assert names["engine-records"] == ["engine/boots.json", "engine/manifest.json"]
    assert names["caches"] == ["engine/caches/files/triton/kernel.so", "engine/caches/manifest.json"]
    assert names["tokenizer"] == [
        f"engine/model/{name}" for name in ("chat_template.jinja", "tokenizer.json", "tokenizer_config.json")
    ]
    assert names["model-config"] == ["engine/model/config.json", "engine/model/generation_config.json"]
    assert "engine/model/model-layer-00000.safetensors" in names["weights"]
    assert notes == ["not shipped with the model: 2 files that no engine reads (manifest.json, training.log)"]
    (cache,) = (
        file.member for part in parts if part.name == "caches" for file in part.files if ".so" in file.member.name
    )
    assert (cache.mode, cache.mtime_ns) == (0o750, 1_700_000_000_123_456_789)
    assert {part.role for part in parts} == {"engine", "cache"}


def test_the_embedded_engine_ships_its_own_files(tmp_path: Path) -> None:
    parts, notes = engine_parts(make_engine(Store(tmp_path), {"answer": "x"}))
    assert listed(parts) == {
        "serve-config": ["engine/serve.json"],
        "engine-records": ["engine/manifest.json", "engine/model.gguf", "engine/server"],
    }
    modes = {file.member.name: file.member.mode for part in parts for file in part.files}
    assert modes["models/engine/server"] == 0o755
    assert modes["models/engine/model.gguf"] == 0o644
    assert notes == []


def test_documents_have_a_layer_each() -> None:
    parts = document_parts({"sbom.json": "{}", "card.md": "# Größe\n", "report.html": ""})
    assert [(part.name, part.files[0].member.size) for part in parts] == [("card", 10), ("document", 0), ("sbom", 2)]


def test_what_cannot_ship_is_refused(tmp_path: Path) -> None:
    engine = make_engine(Store(tmp_path), {"answer": "x"})
    (engine.path / "gone").symlink_to("nowhere")
    with pytest.raises(BundleError, match="engine/gone: No such file"):
        engine_parts(engine)
    (engine.path / "gone").unlink()
    (engine.path / "folder").symlink_to("/usr")
    with pytest.raises(BundleError, match="engine/folder: no regular file"):
        engine_parts(engine)

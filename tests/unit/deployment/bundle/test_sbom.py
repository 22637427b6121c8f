"""The bill of materials: what the release was made of, equal for equal releases."""

from __future__ import annotations

import json
from pathlib import Path

from slipway.deployment.bundle.sbom import sbom
from slipway.store.store import Store
from tests.support.shippable import checkpoint, gpu_engine
from tests.support.target import make_data, make_engine


def test_models_data_image_and_packages_are_listed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    model = checkpoint(store, "q")
    engine, data = gpu_engine(store, "e", model), make_data(store)
    text = sbom(engine, "home-intents", data)
    document = json.loads(text)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    component = document["metadata"]["component"]
    assert (component["name"], component["hashes"][0]["content"]) == ("home-intents", engine.digest)
    by_ref = {row["bom-ref"]: row for row in document["components"]}
    assert by_ref[f"quantized:{model.digest}"]["type"] == "machine-learning-model"
    assert by_ref[f"dataset:{data.digest}"]["type"] == "data"
    image = by_ref["image:" + "5" * 64]
    assert (image["type"], image["name"], image["version"]) == ("container", "example.org/vllm", "0.32")
    assert any(ref.startswith("pkg:pypi/torch@2") for ref in by_ref)
    assert document["dependencies"][0]["dependsOn"] == sorted(by_ref)
    assert sbom(engine, "home-intents", data) == text


def test_a_program_built_here(tmp_path: Path) -> None:
    document = json.loads(sbom(make_engine(Store(tmp_path), {"answer": "x"}), "m"))
    assert {"type": "application", "bom-ref": "program:llama.cpp", "name": "llama.cpp", "version": "b"} in document[
        "components"
    ]

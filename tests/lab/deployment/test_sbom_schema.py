"""The bill of materials against CycloneDX's own schemas, as the project's Python package ships them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from referencing import Registry, Resource

from slipway.deployment.bundle.sbom import sbom
from slipway.store.store import Store
from tests.support.shippable import checkpoint, gpu_engine
from tests.support.target import make_data, make_engine

INSTALL = Path(__file__).parents[3] / "infra/lab/cyclonedx/install"


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    """Of CycloneDX 1.6, with the schemas of licences and signatures that it refers to; formats count."""
    env = {**os.environ, "PYTHON": sys.executable}
    folder = Path(subprocess.run([INSTALL], check=True, env=env, stdout=subprocess.PIPE, text=True).stdout.strip())
    names = ("bom-1.6", "spdx", "jsf-0.82")
    schemas = [
        json.loads((folder / f"cyclonedx/schema/_res/{name}.SNAPSHOT.schema.json").read_text()) for name in names
    ]
    registry: Registry[Any] = Registry().with_resources(
        [(schema["$id"], Resource.from_contents(schema)) for schema in schemas]
    )
    return Draft7Validator(schemas[0], registry=registry, format_checker=Draft7Validator.FORMAT_CHECKER)


@pytest.fixture
def documents(tmp_path: Path) -> list[dict[str, Any]]:
    """Of an engine in an image with model, data and packages, and of one that was built on its machine."""
    store = Store(tmp_path)
    image = sbom(gpu_engine(store, "e", checkpoint(store, "q")), "home-intents", make_data(store))
    return [json.loads(text) for text in (image, sbom(make_engine(store, {"answer": "x"}), "m"))]


def test_what_is_shipped_is_cyclonedx(validator: Draft7Validator, documents: list[dict[str, Any]]) -> None:
    for document in documents:
        assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)] == []


@pytest.mark.parametrize(
    ("spoil", "path"),
    [
        (lambda d: d.update(serialNumber="urn:uuid:1"), "$.serialNumber"),
        (lambda d: d["components"][0].update(type="model"), "$.components[0].type"),
        (lambda d: d["components"][0]["hashes"][0].update(content="abc"), "$.components[0].hashes[0].content"),
        (lambda d: d["metadata"].update(made="today"), "$.metadata"),
        (lambda d: d["dependencies"].append({"dependsOn": []}), "$.dependencies[1]"),
    ],
)
def test_the_schema_refuses_what_is_not(
    validator: Draft7Validator, documents: list[dict[str, Any]], spoil: Callable[[dict[str, Any]], object], path: str
) -> None:
    spoil(documents[0])
    assert [error.json_path for error in validator.iter_errors(documents[0])] == [path]

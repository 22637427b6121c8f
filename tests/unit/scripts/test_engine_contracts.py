"""The package's contracts are what the option lists say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.engine_contracts import ENGINES, documents

DOCUMENTS = documents()


@pytest.mark.parametrize("folder", sorted(DOCUMENTS))
def test_the_committed_contract_is_the_one_that_the_script_writes(folder: str) -> None:
    assert json.loads((ENGINES / folder / "contract.json").read_text()) == DOCUMENTS[folder]


@pytest.mark.parametrize(
    ("folder", "version", "file"),
    [
        ("vllm", "0.26.0", "vllm/serve-0.26.0.json"),
        ("trtllm", "1.2.1", "trtllm/trtllm-serve-1.2line.json"),
        ("trtllm", "1.3.0rc15", "trtllm/trtllm-serve-pre-removal.json"),
        ("trtllm", "1.3.0rc22", "trtllm/trtllm-serve.json"),
        ("trtllm_build", "1.2.1", "trtllm/trtllm-build.json"),
    ],
)
def test_every_spelling_of_every_listed_option_is_in_it(folder: str, version: str, file: str) -> None:
    listed = json.loads((Path("tests/contracts") / file).read_text())["options"]
    names = {name for o in listed for name in [*o.get("flags", []), *o.get("aliases", []), o.get("name")] if name}
    assert names
    assert names == set(DOCUMENTS[folder]["options"][version])


def test_keys_of_the_config_file_are_those_of_the_listed_classes() -> None:
    listed = json.loads(Path("tests/contracts/trtllm/llm_args.json").read_text())["fields"]
    keys = DOCUMENTS["trtllm"]["keys"]["1.3.0rc24"]
    assert set(keys) == {field["name"] for field in listed}
    assert keys["max_batch_size"] == "int"
    assert "CUTLASS" in keys["moe_config"]["backend"]
    assert keys["speculative_config"] is None
    assert keys["load_format"] == "any"

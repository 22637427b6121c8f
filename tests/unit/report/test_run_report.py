import base64
import json
import re
from pathlib import Path

from slipway.engines.boots import Boot
from slipway.evaluation.metric import Metric
from slipway.report.run_report import run_report
from tests.support.record import entry, record


def test_the_report_carries_its_plots_inline_and_as_files(tmp_path: Path) -> None:
    made = run_report(record(tmp_path))
    assert sorted(made.plots) == ["effects.png", "gate.png", "loss.png", "quality.png", "speed.png"]
    inlined = re.findall(r"!\[\w+\]\(data:image/png;base64,([^)]+)\)", made.inline)
    assert sorted(base64.b64decode(i) for i in inlined) == sorted(made.plots.values())
    assert re.findall(r"!\[\w+\]\((\w+\.png)\)", made.linked) == [
        "gate.png",
        "quality.png",
        "effects.png",
        "loss.png",
        "speed.png",
    ]
    assert made.inline.startswith("# home-smollm2-135m: gate inconclusive\n\n| shipped |")
    assert "| lost to quantization | +1.0 (-1.0 to +3.0)" in made.linked
    assert "| val_loss | 0.21 |" in made.linked


def test_the_page_says_what_the_markdown_says_with_drawn_plots(tmp_path: Path) -> None:
    made = run_report(record(tmp_path))
    assert made.page.count("<svg") == 5 and "<img" not in made.page
    assert "http-equiv" not in made.page and not re.findall(r'(?:src|href)="http', made.page)
    for heading in re.findall(r"^## (.+)$", made.linked, re.M):
        assert f"<h2>{heading}</h2>" in made.page


def test_memory_and_starts_are_shown_where_they_were_measured(tmp_path: Path) -> None:
    run = record(tmp_path)
    (run.quality["candidate"].path / "memory.json").write_text(json.dumps([[0.0, 2e8], [0.5, 3e8]]))
    boots = [
        Boot(start=start, ready_s=ready, steps=steps, first_answer_s=0.5, tokens_per_s=90.0).model_dump()
        for start, ready, steps in (
            ("cold", 110.0, {"process": 45.0, "weights": 20.0, "compile": 45.0}),
            ("warm", 71.0, {"process": 51.0, "weights": 20.0}),
            ("warm", 70.0, {"process": 50.0, "weights": 20.0}),
        )
    ]
    (run.engine.path / "boots.json").write_text(json.dumps(boots))
    made = run_report(run)
    assert sorted(made.plots) == [
        "effects.png",
        "gate.png",
        "loss.png",
        "memory.png",
        "quality.png",
        "speed.png",
        "starts.png",
    ]
    assert "| warm 2 | 70.00 | 50.00 | 20.00 | 0.00 | 0.50 | 90.0 |" in made.linked


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    run = record(tmp_path)
    assert run_report(run) == run_report(run)


def test_without_speed_there_is_no_speed_plot(tmp_path: Path) -> None:
    made = run_report(record(tmp_path, timed=False))
    assert sorted(made.plots) == ["effects.png", "gate.png", "loss.png", "quality.png"]
    assert "## Speed as served\n\nNone." in made.linked


def test_what_was_evaluated_beside_has_its_table(tmp_path: Path) -> None:
    run = record(tmp_path)
    assert "Agent and retrieval" not in run_report(run).linked
    recall = entry(Metric("rag_recall", "answers within the context", "real"), 0.8)
    run.judged["beside"] = [recall]
    assert (
        "## Agent and retrieval\n\n| metric | of | items | value |\n|---|---|---|---|\n"
        "| rag_recall | answers within the context | 200 | 80.0 % (75.0 to 85.0) |" in run_report(run).linked
    )

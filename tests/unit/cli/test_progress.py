from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from slipway.cli.progress import Bars, LiveProgress, describe, human_bytes
from slipway.cli.tables import show_run
from tests.support.record import quality

EVENT = {
    "t": 1.0,
    "event": "progress",
    "what": "train",
    "done": 40,
    "total": 120,
    "unit": "steps",
    "loss": 0.3124,
    "tokens_per_s": 1240.4,
}
SUMMARY: dict[str, Any] = {
    "stages": [
        {"stage": "fetch", "reused": True, "why": "same inputs", "seconds": 0.0, "peak_rss": 0, "digest": "ab" * 32},
        {
            "stage": "train",
            "reused": False,
            "why": "made",
            "seconds": 12.34,
            "peak_rss": 1_200_000_000,
            "digest": "cd" * 32,
        },
    ],
    "quality": {
        "candidate": {
            "metrics": quality(0.8, 0.9),
            "speed": [],
        }
    },
    "gate": {
        "rules": [
            {
                "rule": "floor",
                "metric": "json_exact",
                "against": "floor",
                "value": 0.8,
                "expected": 0.5,
                "low": 0.75,
                "high": 0.85,
                "outcome": "pass",
                "reason": "0.800 is at least 0.500",
            }
        ]
    },
    "endpoint": "http://127.0.0.1:8091",
    "links": {"endpoint": "http://127.0.0.1:8091", "mlflow": ""},
}


def test_describe_says_counts_and_figures() -> None:
    assert describe(EVENT) == "train 40/120 steps, loss 0.312, 1,240 tokens/s"
    assert describe({**EVENT, "total": None, "done": 1200}) == "train 1,200 steps, loss 0.312, 1,240 tokens/s"
    assert describe({"t": 1.0, "event": "note", "text": "downloading"}) == "downloading"


STREAMED = {
    "t": 1.0,
    "event": "progress",
    "what": "quantize",
    "done": 1_250_000_000,
    "total": 16_060_000_000,
    "unit": "bytes",
    "gb_per_s": 0.4213,
    "eta_s": 35.2,
    "tensor": "model.layers.3.mlp.up_proj.weight",
    "anon_gb": 1.52,
}


def test_a_pass_over_weights_says_bytes_speed_what_is_left_memory_and_where_it_is() -> None:
    assert (
        describe(STREAMED)
        == "quantize 1.2 GB/16.1 GB, 0.421 GB/s, ETA 0:35, 1.52 GB memory, model.layers.3.mlp.up_proj"
    )
    assert describe({**STREAMED, "total": None}).startswith("quantize 1.2 GB, 0.421 GB/s")


def test_a_terminal_shows_the_pass_as_a_bar() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=200)
    with Bars(console).open() as bars, bars.stage("quantize") as line:
        LiveProgress(line, console).update(**{k: v for k, v in STREAMED.items() if k not in ("t", "event")})
    assert "1.2 GB/16.1 GB, 0.421 GB/s" in out.getvalue()
    assert "mlp.up_proj" in out.getvalue()


def test_without_a_terminal_a_line_is_printed_now_and_then_and_every_note() -> None:
    out = io.StringIO()
    console = Console(file=out, width=200)
    with Bars(console).open() as bars, bars.stage("quantize") as line:
        progress = LiveProgress(line, console, every_s=3600)
        for done in (1, 2, 3, 10):
            progress.update("quantize", done, 10, "bytes", tensor=f"t{done}")
        progress.note("merged")
    assert out.getvalue().splitlines() == ["quantize 1 B/10 B, t1", "merged"]


def test_human_bytes_are_decimal() -> None:
    assert [human_bytes(n) for n in (999, 1000, 1_250_000, 2.5e12)] == ["999 B", "1.0 kB", "1.2 MB", "2.5 TB"]


def test_a_terminal_gets_one_line_a_stage_that_stays() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=160)
    with Bars(console).open() as bars, bars.stage("train") as line:
        line.event(EVENT)
        line.say("made in 3.0 s")
    last = out.getvalue().splitlines()[-2]
    assert "train" in last
    assert "made in 3.0 s" in last


def test_no_terminal_no_bars() -> None:
    out = io.StringIO()
    bars = Bars(Console(file=out))
    with bars.open(), bars.stage("train") as line:
        line.event(EVENT)
    assert not bars.live
    assert out.getvalue().strip() == ""


def test_run_tables_say_made_and_reused_and_why() -> None:
    out = io.StringIO()
    show_run(SUMMARY, Console(file=out, width=140))
    lines = out.getvalue().splitlines()
    (fetch,) = [line for line in lines if line.startswith("fetch")]
    (train,) = [line for line in lines if line.startswith("train")]
    assert "reused" in fetch
    assert fetch.rstrip().endswith("same inputs")
    assert "made" in train
    assert "12.3" in train
    assert "1.2 GB" in train
    assert any("80.0 % (75.0 to 85.0)" in line for line in lines)
    assert any("http://127.0.0.1:8091" in line for line in lines)
    assert not any(line.startswith("mlflow") for line in lines)

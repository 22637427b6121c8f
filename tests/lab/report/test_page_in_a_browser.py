"""The report as a browser shows it: nothing cut on a wide screen, a phone or paper; ink and paper of light and dark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slipway.engines.boots import Boot
from slipway.evaluation.speed import QUANTILES
from slipway.report.run_report import run_report
from tests.support.browser import Browser, browser
from tests.support.record import record, speed

# Elements, but those inside a frame that scrolls, that reach beyond the page's right edge
CUT = """[...document.querySelectorAll('body *')].filter((e) => !e.closest('.wide') && !e.parentElement.closest('svg')
  && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map((e) => e.tagName)"""
SCROLLS = """[...document.querySelectorAll('.wide')].filter((e) => e.scrollWidth > e.clientWidth + 1)
  .map((e) => e.innerText.slice(0, 60))"""
LUMA = """(name) => { const c = getComputedStyle(document.body)[name].match(/[0-9.]+/g).map(Number);
  return (0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2]) / 255; }"""


def report(tmp_path: Path) -> Path:
    """The page of a run with everything measured."""
    run = record(tmp_path)
    quantiles = {f"{part}_quantiles_ms": [float(q) for q in QUANTILES] for part in ("ttft", "itl")}
    for name in ("merged", "candidate"):
        runs = [{**one, **quantiles} for one in speed(70.0)]
        (run.quality[name].path / "speed.json").write_text(json.dumps(runs))
        (run.quality[name].path / "memory.json").write_text("[[0.0, 2e8], [0.5, 3e8]]")
    boots = [
        Boot(start=kind, ready_s=60.0, steps={"process": 45.0, "weights": 15.0}, first_answer_s=0.5, tokens_per_s=90.0)
        for kind in ("cold", "warm", "warm")
    ]
    (run.engine.path / "boots.json").write_text(json.dumps([boot.model_dump() for boot in boots]))
    page = tmp_path / "report.html"
    page.write_text(run_report(run).page)
    return page


def show(page: Browser, file: Path, width: int, scheme: str, media: str = "screen") -> None:
    """Open a page in a window of this width as this medium."""
    features: list[dict[str, Any]] = [{"name": "prefers-color-scheme", "value": scheme}]
    page.call("Emulation.setEmulatedMedia", media=media, features=features)
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    page.open(file.as_uri())
    page.wait("document.readyState === 'complete' && document.querySelectorAll('svg').length > 0")


def test_nothing_is_cut_and_ink_stands_out_from_its_paper(tmp_path: Path) -> None:
    file = report(tmp_path)
    with browser() as page:
        for width, scheme, media in ((1200, "light", "screen"), (1200, "dark", "screen"), (390, "dark", "screen"),
                                     (720, "dark", "print")):  # fmt: skip
            show(page, file, width, scheme, media)
            assert page.run(CUT) == [], (width, media)
            paper, ink = (page.run(f"({LUMA})('{name}')") for name in ("backgroundColor", "color"))
            assert paper < 0.15 < 0.8 < ink if (scheme, media) == ("dark", "screen") else ink < 0.2 < 0.95 < paper
            if width > 390:  # a phone scrolls wide tables in their frames
                assert page.run(SCROLLS) == [], (width, media)
        titles = page.run("[...document.querySelectorAll('svg')].length")
        assert titles == 8  # gate, quality, effects, loss, speed, latency, memory, starts

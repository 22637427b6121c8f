import base64
import io
import re
from pathlib import Path

import matplotlib.image
import pytest

from slipway.report import run_report as report
from slipway.report.run_report import run_report
from tests.support.record import record


def test_the_report_carries_its_plots_inline_and_as_files(tmp_path: Path) -> None:
    made = run_report(record(tmp_path))
    assert sorted(made.plots) == ["loss.png", "quality.png", "speed.png"]
    inlined = re.findall(r"!\[\w+\]\(data:image/png;base64,([^)]+)\)", made.inline)
    assert sorted(base64.b64decode(i) for i in inlined) == sorted(made.plots.values())
    assert re.findall(r"!\[\w+\]\((\w+\.png)\)", made.linked) == ["quality.png", "loss.png", "speed.png"]
    assert made.inline.startswith("# home-smollm2-135m: gate inconclusive\n")
    assert "| lost to quantization | +1.0 (-1.0 to +3.0)" in made.linked
    assert "| val_loss | 0.21 |" in made.linked


@pytest.mark.parametrize("plot", ["loss_curve", "quality_bars", "speed_lines"])
def test_plots_are_small_pictures_with_something_on_them(tmp_path: Path, plot: str) -> None:
    png = getattr(report, plot)(record(tmp_path))
    assert len(png) < 60_000
    pixels = matplotlib.image.imread(io.BytesIO(png), format="png")
    assert pixels.shape[0] > 200
    blue = abs(pixels[..., :3] - [0x2F / 255, 0x6F / 255, 0xB0 / 255]).max(axis=-1) < 0.01
    assert blue.sum() > 100


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    run = record(tmp_path)
    assert run_report(run) == run_report(run)


def test_without_speed_there_is_no_speed_plot(tmp_path: Path) -> None:
    made = run_report(record(tmp_path, timed=False))
    assert sorted(made.plots) == ["loss.png", "quality.png"]
    assert "## Speed as served\n\nNone." in made.linked

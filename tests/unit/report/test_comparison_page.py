"""Two versions on one page: the tables of `compare`, both in the same plots, what one side lacks named."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.errors import DataError
from slipway.evaluation.comparison import compare, read_side
from slipway.report.comparison_page import comparison_page
from tests.support.evaluations import evaluation


def test_quality_and_speed_of_both_are_on_one_page(tmp_path: Path) -> None:
    a, b = read_side(evaluation(tmp_path / "a")), read_side(evaluation(tmp_path / "b", wrong=4))
    page = comparison_page(a, b, compare(a, b))
    assert page.count("<svg") == 2 and "<img" not in page
    assert "<h2>Quality</h2>" in page and "<h2>Speed</h2>" in page
    assert "-10.0 (" in page and "<td>1.051</td>" in page
    assert str(tmp_path / "a") in page


def test_without_speed_there_is_no_speed_section(tmp_path: Path) -> None:
    folders = [evaluation(tmp_path / name) for name in ("a", "b")]
    for folder in folders:
        (folder / "speed.json").unlink()
    a, b = map(read_side, folders)
    page = comparison_page(a, b, compare(a, b))
    assert page.count("<svg") == 1 and "<h2>Speed</h2>" not in page


def test_memory_of_both_is_drawn_where_both_sampled_it(tmp_path: Path) -> None:
    folders = [evaluation(tmp_path / name) for name in ("a", "b")]
    (folders[0] / "memory.json").write_text("[[0.0, 1e9], [1.0, 2e9]]")
    a, b = map(read_side, folders)
    assert "Memory" not in comparison_page(a, b, compare(a, b))
    (folders[1] / "memory.json").write_text("[[0.0, 3e9]]")
    a, b = map(read_side, folders)
    page = comparison_page(a, b, compare(a, b))
    assert page.count("<svg") == 3 and "<h2>Memory of the server</h2>" in page


@pytest.mark.parametrize("text", ["{", "[1]", '[["a", "b"]]', "7"])
def test_memory_that_is_none_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (evaluation(tmp_path / "a") / "memory.json").write_text(text)
    with pytest.raises(DataError, match=r"memory\.json"):
        read_side(tmp_path / "a")

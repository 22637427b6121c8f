from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.errors import ConfigError, DataError
from slipway.evaluation.comparison import compare, read_side
from tests.support.evaluations import evaluation
from tests.support.record import speed


def bench(path: Path, tokens_per_s: float, **changes: Any) -> Path:
    """A document of `slipway bench --json`."""
    settings = {"settings": {"prompts": "ab", "sampling": "greedy"}, "output_tokens": [48, 64], "counted_by": "server"}
    runs = [{**run, **settings, **changes} for run in speed(tokens_per_s)]
    path.write_text(json.dumps({"url": "u", "model": "m", "runs": runs}))
    return path


def test_quality_is_paired_and_speed_a_ratio(tmp_path: Path) -> None:
    document = compare(read_side(evaluation(tmp_path / "a")), read_side(evaluation(tmp_path / "b", wrong=4)))
    exact = document["quality"]["json_exact"]
    assert exact["value"] == pytest.approx(-0.1)
    assert exact["low"] < -0.1 < exact["high"] and exact["n"] == 40
    assert [row["concurrency"] for row in document["speed"]] == [1, 4]
    assert document["speed"][0]["figures"]["tokens_per_s"] == {"a": 78.0, "b": 82.0, "ratio": pytest.approx(1.0513)}
    assert [line.split(" (")[0] for line in document["left_out"]] == ["the prompts are not on record"]


def test_two_benches_have_no_quality(tmp_path: Path) -> None:
    a, b = read_side(bench(tmp_path / "a.json", 50)), read_side(bench(tmp_path / "b.json", 100))
    document = compare(a, b)
    assert document["quality"] == {}
    assert document["speed"][1]["figures"]["ttft_ms_p50"]["ratio"] == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"client": "aiperf 0.13.0"}, r"client: slipway asyncio 2 in .*aiperf 0\.13\.0 in"),
        ({"output_tokens": [16, 32]}, r"output_tokens: \[48, 64\]"),
        ({"settings": {"prompts": "cd", "sampling": "greedy"}}, "settings, prompts: ab in .*cd in"),
        ({"settings": {"prompts": "ab"}}, "sampling: greedy in .*not recorded in"),
        ({"counted_by": "chunk"}, "counted_by: server"),
    ],
)
def test_unlike_speed_is_refused_by_the_name_of_the_difference(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    a, b = read_side(bench(tmp_path / "a.json", 50)), read_side(bench(tmp_path / "b.json", 50, **change))
    with pytest.raises(DataError, match=message):
        compare(a, b)


def test_unlike_quality_is_refused_by_the_name_of_the_difference(tmp_path: Path) -> None:
    a = read_side(evaluation(tmp_path / "a", max_new_tokens=64))
    b = read_side(evaluation(tmp_path / "b", max_new_tokens=32))
    with pytest.raises(DataError, match=r"max_new_tokens: 64 in .*32 in"):
        compare(a, b)


def test_parameters_of_artifacts_must_agree_and_their_timeouts_need_not(tmp_path: Path) -> None:
    one = {"ignore_case": False, "timeout_s": 60}
    a = read_side(evaluation(tmp_path / "a", params=one))
    assert compare(a, read_side(evaluation(tmp_path / "b", params={**one, "timeout_s": 9})))["quality"]
    with pytest.raises(DataError, match="parameters, ignore_case"):
        compare(a, read_side(evaluation(tmp_path / "c", params={**one, "ignore_case": True})))


def test_other_items_are_refused_by_name(tmp_path: Path) -> None:
    a, other = evaluation(tmp_path / "a"), evaluation(tmp_path / "b")
    lines = (other / "items.jsonl").read_text().replace('"r7"', '"r99"')
    (other / "items.jsonl").write_text(lines)
    with pytest.raises(DataError, match="r99 and r7"):
        compare(read_side(a), read_side(other))


@pytest.mark.parametrize("name", ["template", "expected"])
def test_rows_of_equal_ids_that_are_others_are_refused_with_both(tmp_path: Path, name: str) -> None:
    folders = [evaluation(tmp_path / "a"), evaluation(tmp_path / "b")]
    for folder, value in zip(folders, ("on", "off"), strict=True):
        items = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
        items[7][name] = value
        (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    with pytest.raises(DataError, match=rf"test row r7, {name}: on in .*/a, off in .*/b"):
        compare(*map(read_side, folders))


def test_what_only_one_side_has_is_said(tmp_path: Path) -> None:
    a, b = evaluation(tmp_path / "a"), evaluation(tmp_path / "b")
    (b / "speed.json").write_text(json.dumps(speed(70.0)[:1]))
    assert compare(read_side(a), read_side(b))["left_out"][0] == f"speed at 4: only in {a}"


def test_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    a, b = bench(tmp_path / "a.json", 50), bench(tmp_path / "b.json", 50, concurrency=9)
    with pytest.raises(DataError, match="nothing measured on both"):
        compare(read_side(a), read_side(b))


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"runs": 7}', "\x00", "[" * 90000])
def test_a_file_that_is_no_measurement_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(DataError, match=r"x\.json"):
        read_side(file)


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not there"):
        read_side(tmp_path / "none")
    with pytest.raises(DataError):
        read_side(tmp_path)

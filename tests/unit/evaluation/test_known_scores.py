"""Scores that lie beside an engine: the same tokens need no reference, any other do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.calibration.rounding_kinds import KernelRounding
from slipway.config.engine import AgreementConfig
from slipway.engines.driver import Limits, ServePlan
from slipway.engines.token_client import WrittenTokens
from slipway.errors import EngineError, StateError
from slipway.evaluation import agreement_check
from slipway.evaluation.agreement_check import Agreeing
from slipway.evaluation.known_scores import NAME, KnownScores, Score, read_scores, write_scores
from slipway.store.artifacts import Checkpoint
from slipway.system.progress import Progress
from tests.support.pico import pico_model

ROUNDING = KernelRounding(inputs="bf16", quantized="bf16", attention="bf16", results="bf16")
LENGTH = 30
# A file with its rows left open, and a row
ROUNDED = (
    '{"rounding": {"inputs": "bf16", "quantized": "bf16", "attention": "fp16", "results": "none", "weights": "none"}, '
    '"rows": %s}'
)
ROW = '{"prompt": [1], "tokens": [7], "kernel": [-1.5], "exact": [-1], "greedy": [true]}'


def written(first: int) -> WrittenTokens:
    """Some answer to some prompt."""
    return WrittenTokens((1, first), tuple(range(LENGTH)), (-1.0,) * LENGTH)


def score(value: float) -> Score:
    return Score((value,) * LENGTH, (value - 0.01,) * LENGTH, (True,) * LENGTH)


def agreeing(model: Path, known: KnownScores) -> Agreeing:
    """A check of `model` that knows these scores."""
    plan = ServePlan.model_validate(
        {"kind": "vllm", "argv": ["x"], "limits": Limits(context=512, slots=2), "computes": "bf16"}
    )
    weights = Checkpoint(uri=str(model), digest="0" * 64)
    return Agreeing(weights, plan, AgreementConfig(check="on", prompts=2, tokens=LENGTH), Progress(), known)


def test_what_is_known_is_what_the_weights_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = pico_model(tmp_path / "model", layers=2)
    first = agreeing(model, KnownScores())
    first.answers = [written(5), written(6)]
    figures = first.figures()
    first.keep_scores(tmp_path)
    monkeypatch.setattr(agreement_check, "scores", lambda *_: pytest.fail("the weights were asked again"))
    second = agreeing(model, read_scores(tmp_path))
    second.answers = list(first.answers)
    again = second.figures()
    assert again["tokens"] == figures["tokens"] and again["outcome"] == figures["outcome"]
    for name in ("ratio", "growth", "mean_difference", "mean_rounding"):
        assert again[name] == pytest.approx(figures[name], rel=1e-4), name


def test_only_tokens_that_are_not_known_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scores(tmp_path, ROUNDING, [(written(5), score(-1.01))])
    other = replace(written(5), tokens=(*range(LENGTH - 1), 99))  # the last token is another one
    asked: list[WrittenTokens] = []

    def scores(answers: list[WrittenTokens], *_: Any) -> list[Score]:
        asked.extend(answers)
        return [score(-1.01)] * len(answers)

    monkeypatch.setattr(agreement_check, "scores", scores)
    check = agreeing(pico_model(tmp_path / "model", layers=2), read_scores(tmp_path))
    check.answers = [other, written(5)]
    assert check.verdict()["outcome"] == "pass" and asked == [other]
    assert [answer for answer, _ in check.scored] == [other, written(5)]


def test_a_wrong_engine_fails_by_known_scores_as_well(tmp_path: Path) -> None:
    write_scores(tmp_path, ROUNDING, [(written(5), score(-2.0))])
    check = agreeing(tmp_path, read_scores(tmp_path))
    check.answers = [written(5)]  # says -1.0 of each token
    with pytest.raises(EngineError, match="kernel agreement"):
        check.verdict()


def test_other_rounding_and_no_file_are_not_known(tmp_path: Path) -> None:
    assert read_scores(tmp_path).of(written(5), ROUNDING) is None
    write_scores(tmp_path, ROUNDING, [(written(5), score(-1.0)), (written(6), score(-1.5))])
    known = read_scores(tmp_path)
    assert known.of(written(6), ROUNDING) == score(-1.5)
    assert known.of(written(6), replace(ROUNDING, attention="fp16")) is None
    assert known.prompts(1) == [[1, 5]] and known.prompts(2) == [[1, 5], [1, 6]] and known.prompts(3) is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "null", "[" * 100_000, '{"rows": []}', '{"rounding": {"speed": "bf16"}, "rows": []}'),
        ROUNDED % '[{"prompt": 3}]',
        ROUNDED.replace("fp16", "int3") % "[]",
        *(
            ROUNDED % f"[{ROW.replace(*word)}]"
            for word in (("-1.5", '"x"'), ("-1.5", "NaN"), ("-1.5", "null"), ("7", "7.5"))
        ),
    ],
)
def test_a_file_of_another_hand_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)
    with pytest.raises(StateError, match=NAME):
        read_scores(tmp_path)


def test_a_file_of_ours_is_read(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(ROUNDED % f"[{ROW}]")
    assert dict(read_scores(tmp_path).rows) == {((1,), (7,)): Score((-1.5,), (-1,), (True,))}


def test_a_row_that_was_cut_is_named(tmp_path: Path) -> None:
    write_scores(tmp_path, ROUNDING, [(written(5), score(-1.0))])
    document = json.loads((tmp_path / NAME).read_text())
    document["rows"][0]["exact"].pop()
    (tmp_path / NAME).write_text(json.dumps(document))
    with pytest.raises(StateError, match="a row of 30 tokens"):
        read_scores(tmp_path)

"""What a canary makes of what a target tells it. The mirror, HAProxy and engines are in tests/lab/deployment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from slipway.config.canary import CanaryConfig
from slipway.deployment.canary.run import Trial, judge_replay, replay_pairs, run_canary
from slipway.errors import GateError
from tests.support.faulty_engine import faulty

PAIR = {
    "request": {"messages": [{"role": "user", "content": "hello"}]},
    "champion": {"status": 200, "text": "a"},
    "candidate": {"text": "a", "reason": ""},
}


class RecordedTarget:
    """Answers verbs out of a list: pairs by portions, then none; keeps what it was called with."""

    def __init__(self, *portions: list[dict[str, Any]], alive: bool = True, **answers: Any) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._portions, self._alive, self._answers = iter(portions), alive, answers

    def call(self, verb: str, document: dict[str, Any], note: Any = None) -> dict[str, Any]:
        self.calls.append((verb, document))
        if verb == "pairs":
            return {"pairs": next(self._portions, []), "status": {"mirrored": 9, "pid": 1}, "candidate": self._alive}
        return dict(self._answers.get(verb, {}))

    @contextmanager
    def reach(self, endpoint: Mapping[str, Any]) -> Iterator[str]:
        yield str(endpoint["url"])

    def deliver(self, *_: Any) -> dict[str, Any]:
        return {}

    def start_plan(self, bundle: Path) -> dict[str, Any]:
        return {}

    def restart_plan(self, release: str) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


def run(target: RecordedTarget, **params: Any) -> dict[str, Any]:
    config = CanaryConfig(**{"way": "mirror", "for_s": 0.2, **params})
    return run_canary(target, config, lambda _: None, sleep=lambda _: None)


def test_equal_answers_end_it_early_and_the_mirror_is_turned_off() -> None:
    target = RecordedTarget(*[[PAIR] * 64] * 10)
    report = run(target, for_s=60)
    assert report["outcome"] == "no_difference" and report["equal"] == report["compared"] < 640
    assert report["mirror"] == {"mirrored": 9}
    assert [call for call in target.calls if call[0] == "mirror"] == [
        ("mirror", {"on": True, "timeout_s": 600}),
        ("mirror", {"on": False}),
    ]


def test_too_little_traffic_promotes_nothing_and_says_how_much_is_missing() -> None:
    target = RecordedTarget([PAIR] * 10)
    with pytest.raises(GateError, match=r"10 pairs are not enough: about [0-9]+ more would decide"):
        run(target)
    assert target.calls[-1] == ("mirror", {"on": False})


def test_a_candidate_that_fails_or_dies_is_refused() -> None:
    failed = {**PAIR, "candidate": {"text": "", "reason": "HTTP 500"}}
    with pytest.raises(GateError, match="30 of 30 answers failed: HTTP 500"):
        run(RecordedTarget([failed] * 30), for_s=60)
    with pytest.raises(GateError, match="the candidate died"):
        run(RecordedTarget([PAIR], alive=False))


@pytest.mark.parametrize("equal", [0, 600, 5000])
def test_what_nobody_judged_promotes_nothing_however_many_answers_are_equal(equal: int) -> None:
    other = {**PAIR, "candidate": {"text": "b", "reason": ""}}
    target = RecordedTarget([other] * max(5, equal // 10), [PAIR] * equal)
    with pytest.raises(GateError, match=r"inconclusive.*unequal answers were judged by nobody.*name a judge") as caught:
        run(target, for_s=0.1)
    assert caught.value.exit_code == 3


def test_a_few_unjudged_answers_among_many_equal_ones_leave_it_open_no_longer_than_they_must() -> None:
    other = {**PAIR, "candidate": {"text": "b", "reason": ""}}
    report = run(RecordedTarget([other], *[[PAIR] * 64] * 40), for_s=60)
    assert report["outcome"] == "no_difference" and report["unjudged"] == 1


def test_a_share_without_a_request_says_nothing() -> None:
    seen = {"requests": 0, "errors": 0, "total_ms": 0}
    target = RecordedTarget(shared={"champion": seen, "candidate": seen, "candidate_runs": True})
    with pytest.raises(GateError, match="inconclusive: the candidate got no request"):
        run(target, way="weight", for_s=0.01)


@pytest.mark.parametrize(("errors", "passes"), [(0, True), (30, False)])
def test_a_share_is_judged_by_its_failures(errors: int, passes: bool) -> None:
    champion = {"requests": 900, "errors": 1, "total_ms": 5}
    candidate = {"requests": 100, "errors": errors, "total_ms": 9}
    target = RecordedTarget(shared={"champion": champion, "candidate": candidate, "candidate_runs": True})
    if passes:
        assert run(target, way="weight", for_s=0.01)["outcome"] == "lived"
    else:
        with pytest.raises(GateError, match="30 of 100 requests failed"):
            run(target, way="weight", for_s=0.01)
    assert target.calls[0] == ("share", {"percent": 10}) and ("share", {"percent": 0}) in target.calls


def test_captured_prompts_are_asked_of_both_engines() -> None:
    prompts = [{"request": {"messages": [{"role": "user", "content": f"p{i}"}], "max_tokens": 9}} for i in range(4)]
    with faulty() as champion, faulty("garbage") as other:
        target = RecordedTarget(
            capture={"prompts": [*prompts, {"request": {"prompt": "no chat"}}]},
            status={"endpoint": {"url": champion, "model": "m"}},
        )
        trial = Trial(target, CanaryConfig(way="replay"), lambda _: None)
        trial.before_start()
        with pytest.raises(GateError, match=r"4 pairs are not enough.*4 unequal answers were judged by nobody"):
            trial.after_probe(other, "m")


def test_nothing_captured_is_an_error_before_the_candidate_starts() -> None:
    trial = Trial(RecordedTarget(capture={"prompts": []}), CanaryConfig(way="replay"), lambda _: None)
    with pytest.raises(GateError, match="no captured prompts"):
        trial.before_start()
    assert Trial(RecordedTarget(), CanaryConfig(), lambda _: None).after_probe("", "") == {}


def test_an_engine_that_is_gone_fails_its_prompts() -> None:
    with faulty() as url:
        then = replay_pairs([PAIR] * 20, url, "m", 5)
    now = replay_pairs([PAIR] * 20, "http://127.0.0.1:9/v1", "m", 1)
    with pytest.raises(GateError, match="20 of 20 answers failed"):
        judge_replay(then, now, CanaryConfig(way="replay"), lambda _: None)

"""A canary and an evaluation judged by a model server: a real llama-server, held by a grammar to verdicts, since its
model is random."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from benchmarks.kernel_agreement import letters_model, llama_server
from slipway.config.canary import CanaryConfig
from slipway.config.engine import EngineConfig
from slipway.config.store import StoreConfig
from slipway.deployment.canary.run import judge_replay
from slipway.engines.chat_client import ChatClient
from slipway.engines.llamacpp.build import ensure_build
from slipway.engines.llamacpp.convert import convert
from slipway.errors import EngineLostError, GateError
from slipway.evaluation.judge import PROMPT
from slipway.pipeline.workspace import Workspace
from slipway.stages.evaluate import PARTIAL, EvaluateParams, evaluate
from slipway.store.artifacts import Dataset, Engine
from slipway.store.store import load, seal
from slipway.system.progress import Progress
from tests.support.scripted_server import bundle

GRAMMAR = 'root ::= "Verdict: " ("A" | "B" | "tie")'


Judges = Callable[[str], AbstractContextManager[str]]  # a grammar -> the URL of a judge that writes by it


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Judges:
    folder = tmp_path_factory.mktemp("judge")
    build = ensure_build(EngineConfig(), Path(StoreConfig().cache).expanduser(), Progress())
    convert(build, letters_model(folder / "model", 7), folder / "judge.gguf", "bf16")
    return lambda grammar: llama_server(build.server, folder / "judge.gguf", ["--grammar", grammar])


@pytest.fixture(scope="module")
def judge_url(judges: Judges) -> Iterator[str]:
    with judges(GRAMMAR) as url:
        yield url


def pairs(count: int, answer: str) -> list[dict[str, Any]]:
    request = {"messages": [{"role": "user", "content": "say a word"}]}
    texts = [f"{answer} {number % 10}" for number in range(count)]
    return [{"request": request, "answer": {"status": 200, "text": text, "reason": ""}} for text in texts]


def params(url: str, **judge: Any) -> CanaryConfig:
    return CanaryConfig.model_validate(
        {"way": "replay", "margin": 0.5, "judge": {"url": url, "model": "slipway", "timeout_s": 60, **judge}}
    )


def test_a_model_server_judges_unequal_answers_in_both_orders(judge_url: str) -> None:
    """A random model has a favourite place, not a favourite answer: the two orders disagree, which makes ties."""
    report = judge_replay(pairs(40, "old"), pairs(40, "new"), params(judge_url), lambda _: None)
    counts = report["quality"]["counts"]
    assert (report["compared"], report["equal"], report["unjudged"]) == (40, 0, 0)
    assert counts["wins"] + counts["ties"] + counts["losses"] == 40 and report["outcome"] == "no_difference"


def test_a_judge_that_is_cut_off_before_its_verdict_has_not_judged(judge_url: str) -> None:
    with pytest.raises(
        GateError, match=r"inconclusive: 10 pairs are not enough.*10 unequal answers were judged by nob"
    ):
        judge_replay(pairs(10, "old"), pairs(10, "new"), params(judge_url, max_tokens=2), lambda _: None)


class Served:
    """A served model that answers as each row's question says, evaluated by a judge."""

    def __init__(self, folder: Path, count: int = 6) -> None:
        self.folder = folder
        self.rows = [self.row(i) for i in range(count)]
        for name in ("data", "work", "out"):
            (folder / name).mkdir()
        seal(bundle(folder / "engine", slots=1), Engine.kind, "k", {})
        (folder / "data" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        (folder / "data" / "summary.json").write_text(json.dumps({"label_key": None, "longest_answer_tokens": 8}))
        seal(folder / "data", Dataset.kind, "k", {})

    @staticmethod
    def row(at: int) -> dict[str, Any]:
        turns = [{"role": "user", "content": f"say word {at}"}, {"role": "assistant", "content": f"the word {at}"}]
        return {"id": f"r{at}", "messages": turns, "label": "all", "template": f"t{at}"}

    def evaluate(self, url: str, progress: Progress | None = None, **judge: Any) -> tuple[list[Any], dict[str, Any]]:
        """The judge's value of each item, and its entry in `metrics.json`."""
        judged = {"url": url, "model": "slipway", "timeout_s": 60, "max_tokens": 64, **judge}
        params = EvaluateParams.model_validate({"metrics": ["judge"], "judge": judged})
        space = Workspace(self.folder / "out", self.folder / "work", self.folder / "cache", progress or Progress())
        engine, data = load(Engine, self.folder / "engine"), load(Dataset, self.folder / "data")
        evaluate(engine, data, params, space)
        lines = (self.folder / "out" / "items.jsonl").read_text().splitlines()
        (entry,) = json.loads((self.folder / "out" / "metrics.json").read_text())["metrics"]
        return [json.loads(line)["metrics"]["judge"] for line in lines], entry


def test_an_evaluation_asks_both_orders_and_takes_what_the_server_says(judge_url: str, tmp_path: Path) -> None:
    served = Served(tmp_path)
    values, entry = served.evaluate(judge_url)
    with ChatClient(judge_url, "slipway", 60) as client:  # the same, asked here

        def says(row: dict[str, Any], a: str, b: str) -> str:
            request = f"user: {row['messages'][0]['content']}"
            filled = PROMPT.replace("{request}", request).replace("{a}", a).replace("{b}", b)
            return client.ask([{"role": "user", "content": filled}], 64).text.removeprefix("Verdict: ")

        expected = []
        for row in served.rows:
            answer, reference = row["messages"][0]["content"].removeprefix("say "), row["messages"][1]["content"]
            both = says(row, reference, answer), says(row, answer, reference)
            expected.append({("B", "A"): 1.0, ("A", "B"): 0.0}.get(both, 0.5))
    assert values == expected and entry["n"] == len(values)


def test_a_judge_with_a_favourite_place_makes_ties(judges: Judges, tmp_path: Path) -> None:
    with judges('root ::= "<think>Verdict: B</think>" [\\n]? "Verdict: A"') as url:
        values, entry = Served(tmp_path).evaluate(url)
    assert values == [0.5] * 6 and (entry["value"], entry["n"]) == (0.5, 6)


@pytest.mark.parametrize("grammar", ['root ::= [a-u]+ "."', 'root ::= "<think>Verdict: A" [a-u]+'])
def test_garbage_and_thoughts_without_an_end_are_no_verdicts_and_that_is_said(
    judges: Judges, tmp_path: Path, grammar: str
) -> None:
    with judges(grammar) as url, Progress(tmp_path / "events") as progress:
        values, entry = Served(tmp_path).evaluate(url, progress)
    assert values == [None] * 6 and (entry["value"], entry["n"]) == (None, 0)
    notes = [
        event["text"]
        for event in map(json.loads, (tmp_path / "events").read_text().splitlines())
        if event["event"] == "note"
    ]
    assert [note for note in notes if "judge" in note and "0 of 6 items" in note]


class EndsJudge(Progress):
    """Ends the judge once two items are judged."""

    def __init__(self, end: Callable[[], object]) -> None:
        super().__init__()
        self.end = end

    def update(self, what: str, done: float, total: float | None, unit: str, **figures: float | str) -> None:
        if done == 2:
            self.end()


def test_a_judge_that_dies_is_named_and_the_evaluation_goes_on_with_another(judges: Judges, tmp_path: Path) -> None:
    served = Served(tmp_path)
    with ExitStack() as stack:
        url = stack.enter_context(judges(GRAMMAR))
        named = rf"judge slipway at {url}, item r\d: .*answered items are kept"
        with pytest.raises(EngineLostError, match=named):
            served.evaluate(url, EndsJudge(stack.close))
    kept = (tmp_path / "work" / PARTIAL).read_text()
    assert 2 <= len(kept.splitlines()) < 6
    with judges(GRAMMAR) as other:  # at another address
        values, entry = served.evaluate(other)
    assert None not in values and entry["n"] == 6
    assert (tmp_path / "work" / PARTIAL).read_text().startswith(kept)

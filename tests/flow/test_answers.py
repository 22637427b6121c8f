"""A whole run that compares arms, uses the chosen one, and has its own engine answer: llama-server on a pico model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from slipway.errors import StageKilledError
from slipway.evaluation.metric import entries, read_items, read_metrics
from slipway.evaluation.overlap_metrics import words
from slipway.ops.chain.calls import answer_eval
from slipway.ops.chain.plan import as_run, plan
from slipway.pipeline.ensure import ensure
from slipway.pipeline.stage import StageCall
from slipway.rag.answer_prompt import without_citations
from slipway.runners.base import Job
from slipway.runners.local import LocalRunner
from slipway.stages.answer_eval import PARTIAL
from slipway.store.artifacts import Artifact, Choice, Corpus, Engine, Evaluation, Retrieval, SearchIndex
from slipway.store.manifest import read_manifest
from slipway.store.store import Store, load
from tests.support import faq
from tests.support.flow_world import MARKS, Outcome, World
from tests.support.pico_embedder import pico_embedder
from tests.support.world import ROOT

pytestmark = MARKS
ITEMS, DONE_BEFORE = 6, 2
ARMS = ["retrieved", "without", "closed", "gold"]
ONE_ARM = ["chunk {}", "embed {}", "index {}", "search_eval {}"]

# The stage's own command, in a process that kills itself when it would report its n-th question
PROGRAM = """
import os, runpy, signal, sys
from slipway.system.progress import Progress

remaining = int(sys.argv.pop(1))
real = Progress.update

def update(self, *args, **more):
    global remaining
    remaining -= 1
    if remaining == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, *args, **more)

Progress.update = update
sys.argv[0] = "slipway"
runpy.run_module("slipway", run_name="__main__", alter_sys=True)
"""


class KillingRunner(LocalRunner):
    """Runs a stage in a process that is killed when `DONE_BEFORE` questions are on disk."""

    def submit(self, job: Job) -> bool:
        python, isolated, _, _, *words = job.argv
        return super().submit(replace(job, argv=(python, isolated, "-c", PROGRAM, str(DONE_BEFORE), *words)))


@pytest.fixture(scope="module")
def keys(world: World) -> dict[str, Any]:
    """Keys of a run that compares three arms, the first of which gives more than the budget holds."""
    faq.write_corpus(world.folder / "docs", 8)
    pico_embedder(world.folder / "embedder")
    return {
        "rag.corpus": world.folder / "docs",
        "rag.arm": "choose",
        "rag.strategies": "{long: {kind: fixed, tokens: 160, overlap: 0}, small: {kind: fixed, tokens: 24, overlap: 4},"
        " window: {kind: sentence-window, sentences: 1, around: 1}}",
        "rag.retrievers": "[bm25]",
        "rag.embedder": f"{{source: directory, directory: {world.folder / 'embedder'}}}",
        "rag.context_tokens": 64,
        "rag.choose": "{resamples: 200, half_width: 1.0}",
        "rag.answers": f"{{items: {ITEMS}, arms: [{', '.join(ARMS)}], context_tokens: 48, max_new_tokens: 32}}",
        "gate.floors": "{json_exact: 0.0, rag_recall: 0.3, answer_f1: 0.0, answer_supported: 0.0}",
    }


@pytest.fixture(scope="module")
def first(world: World, keys: dict[str, Any]) -> Outcome:
    outcome = world.go(**keys)
    assert outcome.state.is_completed(), outcome.state.message
    return outcome


def made_by(world: World, outcome: Outcome, stage: str, kind: type[Artifact]) -> Any:
    """The artifact of a stage of a run, by its title."""
    digest = next(row["digest"] for row in outcome.summary["stages"] if row["stage"] == stage)
    folders = [file.parent for file in (world.folder / "store" / kind.kind).glob("*/manifest.json")]
    return load(kind, next(folder for folder in folders if read_manifest(folder)["digest"] == digest))


def test_the_chosen_arm_is_what_answers_the_gate_and_the_release_have(
    world: World, keys: dict[str, Any], first: Outcome
) -> None:
    arms = [stage.format(name) for name in ("long", "small", "window") for stage in ONE_ARM if "embed" not in stage]
    stages = list(first.reused())
    assert stages[2 : 2 + len(arms) + 3] == ["corpus", *arms, "choose", "train"]
    choice = made_by(world, first, "choose", Choice).read_json("choice.json")
    strategy, retriever = str(choice["winner"]).split("/")
    assert (choice["outcome"], strategy != "long", retriever) == ("decided", True, "bm25"), choice["outcome"]

    index = made_by(world, first, f"index {strategy}", SearchIndex)
    answers = made_by(world, first, "answer_eval candidate", Evaluation)
    provenance = read_manifest(answers.path)["provenance"]
    assert provenance["inputs"]["index"]["digest"] == index.digest
    assert provenance["params"]["retriever"] == retriever
    release = next((world.folder / "target/releases").glob("*/release.json"))
    assert json.loads(release.read_text())["digests"]["index"] == index.digest

    search = made_by(world, first, f"search_eval {strategy}", Retrieval)
    rows = [json.loads(line) for line in (search.path / "items.jsonl").read_text().splitlines()]
    recall = fmean(row["recall"] for row in rows if row["half"] == "report" and row["retriever"] == retriever)
    rules = {rule["metric"]: rule for rule in first.summary["gate"]["rules"]}
    assert rules["rag_recall"]["value"] == pytest.approx(recall)
    measured = entries(read_metrics(answers))
    for name in ("answer_f1", "answer_supported"):
        assert rules[name]["value"] == pytest.approx(measured[name]["value"])

    again = world.go(**keys)
    assert again.state.name == "Cached", again.state.message
    assert {stage.state for stage in plan(as_run(world.config(**keys))[0], ROOT).stages} == {"reused"}


def test_every_question_is_asked_in_every_setting_and_measured_by_itself(world: World, first: Outcome) -> None:
    answers = made_by(world, first, "answer_eval candidate", Evaluation)
    items, metrics = read_items(answers), entries(read_metrics(answers))
    assert len(items) == len({item["id"] for item in items}) == ITEMS
    supported = []
    for item in items:
        arms, values = item["arms"], item["metrics"]
        assert list(arms) == ARMS
        assert arms["closed"]["passages"] == [] and not arms["closed"]["relevant"]
        assert set(arms["gold"]["passages"]) == set(item["documents"]) and arms["gold"]["relevant"]
        assert not set(arms["without"]["passages"]) & set(item["documents"])
        assert arms["retrieved"]["answer"] == item["answer"]
        assert all(0 <= values[name] <= 1 for name in ("answer_f1", "answer_f1_closed", "answer_f1_gold"))
        assert all(arm["finish"] in ("stop", "length") for arm in arms.values())
        answer_words = words(without_citations(item["answer"]))
        assert (values["answer_supported"] is None) == (not answer_words), "a share of the answer's words"
        supported += [values["answer_supported"]] if answer_words else []
    assert any(arm["answer"] for item in items for arm in item["arms"].values()), "the engine answered"
    assert all(0 <= one <= 1 for one in supported)
    assert metrics["answer_supported"]["value"] == (pytest.approx(fmean(supported)) if supported else None)
    for name in ("answer_f1", "answer_f1_closed", "answer_f1_gold"):
        assert metrics[name]["n"] == ITEMS
        assert metrics[name]["value"] == pytest.approx(fmean(item["metrics"][name] for item in items))
    assert answers.summary["questions"] == ITEMS


def test_an_evaluation_killed_in_its_middle_ends_as_one_that_was_not(
    world: World, keys: dict[str, Any], first: Outcome, tmp_path: Path
) -> None:
    whole = read_items(made_by(world, first, "answer_eval candidate", Evaluation))
    call, notes = answer_call(world, keys, first), list[str]()
    run = ensuring(world.config(**keys).store.cache, tmp_path, call, notes)
    with pytest.raises(StageKilledError):
        run(KillingRunner())
    (partial,) = tmp_path.glob(f"store/work/*/{PARTIAL}")
    kept = [json.loads(line)["made"] for line in partial.read_text().splitlines()]
    assert len(kept) == DONE_BEFORE
    again = run(LocalRunner())
    assert f"{DONE_BEFORE} questions were done before the interruption" in notes
    items = read_items(again)
    by_id = {item["id"]: item for item in items}
    assert [by_id[one["id"]] for one in kept] == kept, "what was on disk is not asked again"
    assert [asked(item) for item in items] == [asked(item) for item in whole]
    metrics = entries(read_metrics(again))
    assert metrics["answer_f1"]["value"] == pytest.approx(fmean(item["metrics"]["answer_f1"] for item in items))
    assert metrics["answer_f1"]["n"] == metrics["answer_f1_gold"]["n"] == ITEMS
    assert not [path for path in (tmp_path / "store/work").glob("*") if path.is_dir()]


def asked(item: dict[str, Any]) -> dict[str, Any]:
    """An item without what the model said: what is decoded together decides the order of sums, and near-ties with
    it."""
    arms = {name: (arm["passages"], arm["relevant"]) for name, arm in item["arms"].items()}
    return {**{name: item[name] for name in ("id", "label", "request", "expected", "documents")}, "arms": arms}


def answer_call(world: World, keys: dict[str, Any], outcome: Outcome) -> StageCall:
    """The call of the run's own evaluation of answers."""
    strategy, retriever = str(made_by(world, outcome, "choose", Choice).read_json("choice.json")["winner"]).split("/")
    engine = made_by(world, outcome, "engine candidate", Engine)
    index, corpus = (
        made_by(world, outcome, f"index {strategy}", SearchIndex),
        made_by(world, outcome, "corpus", Corpus),
    )
    assert retriever == "bm25"
    return answer_eval(world.config(**keys), engine, index, corpus, "bm25", "candidate")


def ensuring(cache: str, folder: Path, call: StageCall, notes: list[str]) -> Callable[[LocalRunner], Any]:
    """Makes a call in a store of its own, with what the stage says in `notes`."""

    def listen(event: dict[str, Any]) -> None:
        notes.append(str(event.get("text", "")))

    return lambda runner: ensure(call, Store(folder / "store"), Path(cache).expanduser(), runner, listen).artifact

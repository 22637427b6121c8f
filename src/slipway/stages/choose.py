"""Choose: the evaluations of every index -> the arm that is used, with what the choice rests on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from slipway.config.base import Section
from slipway.config.rag import ChoiceConfig
from slipway.errors import StateError
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Choice, Corpus, Retrieval
from slipway.store.store import load

if TYPE_CHECKING:
    from slipway.config.load import Config
    from slipway.rag.choice import Arm

OUTPUT = Choice
ORDER = {"bm25": 0, "dense": 1, "hybrid": 2}


class EvaluatedIndex(Section):
    """One index's evaluation: there are as many as strategies, so they are params and not inputs."""

    strategy: str = Field(description="Name of the strategy.")
    path: str = Field(description="Absolute path of the evaluation.")
    digest: str = Field(description="Its digest.")
    costs: dict[str, float] = Field(
        description="Costs by the names of `rag.choose.prefer`; `chunking_tokens` were embedded to cut."
    )


class ChooseParams(Section):
    """What is compared, and how the choice is made."""

    evaluations: list[EvaluatedIndex] = Field(min_length=1, description="In the order of the config.")
    choose: ChoiceConfig = Field(description="Section `rag.choose`.")

    def key_document(self) -> dict[str, Any]:
        """Evaluations by digest, not by path: a store may move."""
        document = super().key_document()
        rows = [{k: v for k, v in one.items() if k != "path"} for one in document["evaluations"]]
        return {**document, "evaluations": rows}


def params_of(config: Config, evaluations: Sequence[EvaluatedIndex]) -> ChooseParams:
    """This stage's params in a run."""
    return ChooseParams(evaluations=list(evaluations), choose=config.rag.choose)


def choose(corpus: Corpus, params: ChooseParams, space: Workspace) -> None:
    """Write `choice.json`, `card.md` and `summary.json`. Raises StateError for an evaluation that is not the planned
    one."""
    from slipway.rag import choice
    from slipway.rag.choice_card import card
    from slipway.rag.stored import questions_of, write_document

    arms = [arm for one in params.evaluations for arm in _arms(one)]
    asked = [choice.Asked(one.id, one.document, one.half) for one in questions_of(corpus)]
    document = choice.choose(arms, asked, params.choose)
    document["metrics"] = {
        f"{one.strategy}/{name}": {**values, **_speed(one, name)}
        for one in params.evaluations
        for name, values in _read(one).read_json("metrics.json").items()
    }
    write_document(space.out / "choice.json", document)
    (space.out / "card.md").write_text(card(document), encoding="utf-8")
    summary = {name: document[name] for name in ("outcome", "winner", "best", "questions_needed")}
    write_document(space.out / "summary.json", summary)


def _read(one: EvaluatedIndex) -> Retrieval:
    evaluation = load(Retrieval, Path(one.path))
    if evaluation.digest != one.digest:
        raise StateError(f"evaluation {one.path}", evaluation.digest[:12], one.digest[:12], "run again")
    return evaluation


def _speed(one: EvaluatedIndex, retriever: str) -> dict[str, float]:
    return {"p50_ms": _read(one).read_json("speed.json")[retriever]["p50_ms"]}


def _arms(one: EvaluatedIndex) -> list[Arm]:
    """One arm for each retriever; BM25 needs no vectors of chunks, so they cost it nothing."""
    from slipway.rag.choice import Arm
    from slipway.system.json_files import read_json_lines

    values: dict[str, dict[str, float]] = {}
    for item in read_json_lines(_read(one).path / "items.jsonl", "evaluation", "run again"):
        values.setdefault(item["retriever"], {})[item["question"]] = item["recall"]
    arms = []
    for name in sorted(values, key=lambda retriever: ORDER[retriever]):
        costs = {**one.costs, "embedded_tokens": one.costs["chunking_tokens"]} if name == "bm25" else one.costs
        arms.append(Arm(f"{one.strategy}/{name}", values[name], costs))
    return arms

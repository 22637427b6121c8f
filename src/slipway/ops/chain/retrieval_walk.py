"""The stages of retrieval in a run, in their order, each as it would go; none where `rag.arm` is not set."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.config.load import Config
from slipway.config.rag import CHOOSE, RetrieverName
from slipway.data.dvc_changes import repro_reason
from slipway.errors import SlipwayError
from slipway.ops.chain import retrieval_calls as calls
from slipway.ops.chain.calls import answer_eval
from slipway.ops.chain.index_rival import index_rival
from slipway.ops.chain.known import Known
from slipway.ops.chain.replaced import UNKNOWN
from slipway.pipeline.stage import StageCall
from slipway.store.artifacts import Choice, Chunks, Corpus, Engine, Evaluation, Retrieval, SearchIndex, Vectors

if TYPE_CHECKING:
    from slipway.ops.chain.walk import ChainWalk


def retrieval(chain: ChainWalk, config: Config, root: Path) -> dict[str, Known]:
    """What the gate reads of retrieval: `search`, the evaluation of the arm, and `choice`, where all are compared; and
    `corpus` and `index`, which answers are evaluated with. Raises DataError for a corpus that is not there and that DVC
    does not make."""
    if config.rag.arm is None:
        return {}
    config = calls.of_arm(config)
    first = repro_reason(root, root / config.rag.corpus)
    corpus = chain.make("corpus", Corpus, partial(calls.corpus, config, root), {}, first)
    made = {name: _strategy(chain, config, corpus, name) for name in config.rag.strategies}
    if config.rag.arm != CHOOSE:
        (arm,) = made.values()
        return {"corpus": corpus, "index": arm["index"], "search": arm["evaluation"]}
    parts = {f"{part} {name}": one for name, of_strategy in made.items() for part, one in of_strategy.items()}
    choice = chain.make("choose", Choice, _choose(config), {"corpus": corpus, **parts})
    winner = calls.winner(choice.artifact)[0] if isinstance(choice.artifact, Choice) else next(iter(made))
    arm = made[winner]
    return {"corpus": corpus, "index": arm["index"], "search": arm["evaluation"], "choice": choice}


def champion_search(
    chain: ChainWalk, config: Config, retrieved: dict[str, Known], candidate: Engine | None
) -> dict[str, Known]:
    """`search_champion`: the champion's index, measured too; nothing where it is this one, where there is none, and
    where the target cannot be asked."""
    if "index" not in retrieved:
        return {}
    try:
        retriever, engine = _retriever(config, retrieved), candidate or UNKNOWN
        rival = index_rival(config, engine, retrieved["index"].digest, retriever)
    except SlipwayError:
        return {}
    if rival is None:
        return {}
    inputs = {"index": Known(rival.index), "corpus": retrieved["corpus"]}
    build = partial(calls.search_eval_champion, config, rival)
    return {"search_champion": chain.make("search_eval champion", Retrieval, build, inputs)}


def _retriever(config: Config, retrieved: dict[str, Known]) -> RetrieverName:
    """The one that searches the arm's index; before a choice is made the first of the config."""
    choice = retrieved["choice"].artifact if "choice" in retrieved else None
    return calls.winner(choice)[1] if isinstance(choice, Choice) else calls.of_arm(config).rag.retrievers[0]


def answers(chain: ChainWalk, config: Config, retrieved: dict[str, Known], sides: dict[str, Known]) -> dict[str, Known]:
    """Takes `corpus` and `index` out of `retrieved`, and returns what the gate reads of answers: of the engines of
    `sides`, candidate and where there is one champion; nothing where `rag.answers` is not set."""
    corpus, index = (retrieved.pop(name, None) for name in ("corpus", "index"))
    if corpus is None or index is None or config.rag.answers is None:
        return {}
    retriever, made = _retriever(config, retrieved), {}
    for of, engine in sides.items():
        inputs = {"engine": engine, "index": index, "corpus": corpus}
        build = partial(answer_eval, config, retriever=retriever, of=of)
        name = "answers" if of == "candidate" else f"answers_{of}"
        made[name] = chain.make(f"answer_eval {of}", Evaluation, build, inputs)
    return made


def _strategy(chain: ChainWalk, config: Config, corpus: Known, name: str) -> dict[str, Known]:
    chunks = chain.make(f"chunk {name}", Chunks, partial(calls.chunk, config, name), {"corpus": corpus})
    parts = {"corpus": corpus, "chunks": chunks}
    if calls.with_vectors(config):
        parts["vectors"] = chain.make(f"embed {name}", Vectors, partial(calls.embed, config, name), parts)
    index = chain.make(f"index {name}", SearchIndex, partial(calls.index, config, name), parts)
    inputs = {"index": index, "corpus": corpus}
    evaluation = chain.make(f"search_eval {name}", Retrieval, partial(calls.search_eval, config, name), inputs)
    return {"chunks": chunks, "index": index, "evaluation": evaluation}


def _choose(config: Config) -> Any:
    def build(corpus: Corpus, **parts: Any) -> StageCall:
        made = {
            name: (parts[f"chunks {name}"], parts[f"index {name}"], parts[f"evaluation {name}"])
            for name in config.rag.strategies
        }
        return calls.choose(config, corpus, made)

    return build

"""What the streamed reference computes without a server is what the served models say, token by token.

llama-server is given the row up to each token of the answer and asked for the log-probabilities of all that may follow:
of the bf16 merge, and of the quantized model as it was written.
"""

from __future__ import annotations

import math
from pathlib import Path

import httpx
import pytest
import torch

from slipway.calibration.answers import Answer, read_answers
from slipway.config.store import StoreConfig
from slipway.config.target import TargetConfig
from slipway.engines.serving import service_of, serving
from slipway.pipeline.workspace import Workspace
from slipway.stages.engine import EngineParams, engine
from slipway.store.artifacts import Artifact, Checkpoint, Engine, Quantized
from slipway.store.store import load, seal
from slipway.streaming.streamed_reference import Machine, StreamedReference
from slipway.system.progress import Progress
from slipway.weights.shards import Shards
from tests.support.pico import pico_model
from tests.support.streaming import quantized

PARAMS = EngineParams(context=512, slots=2, threads=1)
ANSWERS = ("on", "dim 3", '{"a":1}')
LETTER = 345  # a token of the pico tokenizer that is one whole character
# nats a token. llama.cpp sums in another order and rounds activations to 8 bits before products with 4-bit weights
MERGED, QUANTIZED = 0.01, 0.1


def served(path: Path, kind: type[Artifact], root: Path) -> Engine:
    """The bundle of a sealed model directory."""
    seal(path, kind.kind, "k", {})
    out, work = root / "engine", root / "work"
    out.mkdir(parents=True)
    work.mkdir()
    cache = Path(StoreConfig().cache).expanduser()
    engine(load(kind, path), PARAMS, Workspace(out, work, cache, Progress()))
    seal(out, Engine.kind, "k", {})
    return load(Engine, out)


def log_probabilities(bundle: Engine, answers: list[Answer], log: Path) -> dict[str, list[dict[int, float]]]:
    """Row -> for each token of its answer, what the server gives every token that may stand there."""
    with serving(service_of(bundle.path, TargetConfig(), log)) as server:

        def following(tokens: tuple[int, ...]) -> dict[int, float]:
            # The bias makes the server write a letter: an answer that is half a character, or ends, comes without
            # probabilities. They are those before the bias.
            body = {"prompt": list(tokens), "n_predict": 1, "n_probs": 400, "logit_bias": [[LETTER, 1000]]}
            url = f"{server.base}/completion"
            answer = httpx.post(url, json=body, timeout=120, trust_env=False).raise_for_status().json()
            return {one["id"]: one["logprob"] for one in answer["completion_probabilities"][0]["top_logprobs"]}

        return {one.id: [following(one.tokens[:at]) for at in range(one.start, len(one.tokens))] for one in answers}


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory):
    """(streamed scores, answers, log-probabilities of the merge, of the quantized model)."""
    root = tmp_path_factory.mktemp("reference")
    merged = pico_model(root / "merged", seed=3, layers=2)
    made = quantized(merged, root / "quantized", format="nvfp4a16")
    rows = [
        {"id": f"r{i}", "messages": [{"role": "user", "content": "ask"}, {"role": "assistant", "content": text}]}
        for i, text in enumerate(ANSWERS)
    ]
    answers = read_answers(rows, merged)
    machine = Machine(torch.device("cpu"), torch.float32, 1e9)
    (root / "work").mkdir()
    scores = StreamedReference(Shards.open(merged), merged, made, machine).score(answers, root / "work", Progress())
    merge = log_probabilities(served(merged, Checkpoint, root / "a"), answers, root / "a.log")
    other = log_probabilities(served(made, Quantized, root / "b"), answers, root / "b.log")
    return scores, answers, merge, other


def test_log_likelihoods_are_the_servers(figures) -> None:
    scores, answers, merge, other = figures
    for score, answer in zip(scores, answers, strict=True):
        following = answer.tokens[answer.start :]
        assert score.tokens == len(following) > 1
        for value, served_by, bound in ((score.reference, merge, MERGED), (score.other, other, QUANTIZED)):
            expected = sum(table[token] for table, token in zip(served_by[answer.id], following, strict=True))
            assert abs(value - expected) / score.tokens < bound


def test_divergence_is_the_servers(figures) -> None:
    scores, answers, merge, other = figures
    for score, answer in zip(scores, answers, strict=True):
        pairs = list(zip(merge[answer.id], other[answer.id], strict=True))
        kl = sum(sum(math.exp(p[v]) * (p[v] - q[v]) for v in p) for p, q in pairs) / len(pairs)
        agreed = sum(max(p, key=p.__getitem__) == max(q, key=q.__getitem__) for p, q in pairs) / len(pairs)
        assert kl == pytest.approx(score.kl, rel=0.25)
        assert agreed == pytest.approx(score.agreement, abs=1.01 / len(pairs))

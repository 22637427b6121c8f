"""Stage `reference`: the test split scored by both models; what cannot be streamed ends the run only where required."""

import json

import pytest

from slipway.errors import CheckpointError
from slipway.pipeline.workspace import Workspace
from slipway.stages.reference import ReferenceParams, reference
from slipway.store.artifacts import Adapter, Checkpoint, Dataset, Quantized
from slipway.store.store import load, seal
from slipway.system.progress import Progress
from slipway.weights.checkpoint import write_virtual
from slipway.weights.model_files import copy_small_files
from tests.support.pico import pico_adapter, pico_model
from tests.support.streaming import quantized


def sealed(cls, path):
    seal(path, cls.kind, "k", {})
    return load(cls, path)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A virtual merge of two layers, and its quantized form."""
    root = tmp_path_factory.mktemp("models")
    base = sealed(Checkpoint, pico_model(root / "base", layers=2))
    adapter = sealed(Adapter, pico_adapter(root / "adapter", layers=range(2)))
    merged = root / "merged"
    merged.mkdir()
    write_virtual(merged, base, adapter)
    copy_small_files(base.path, merged)
    made = quantized(base.path, root / "quantized", adapter=adapter.path, format="nvfp4a16")
    return sealed(Checkpoint, merged), sealed(Quantized, made)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rows = [
        {
            "id": f"r{i}",
            "label": f"l{i % 2}",
            "template": "t",
            "messages": [{"role": "user", "content": f"ask {i}"}, {"role": "assistant", "content": "yes " * (i + 1)}],
        }
        for i in range(4)
    ]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return sealed(Dataset, folder)


class Notes(Progress):
    """Keeps what is noted."""

    def __init__(self):
        super().__init__()
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def run(tmp_path, models, data, **params):
    (tmp_path / "out").mkdir()
    (tmp_path / "work").mkdir()
    notes = Notes()
    values = {"max_items": None, "memory_gb": 1.0, "required": True, **params}
    reference(*models, data, ReferenceParams(**values), Workspace(tmp_path / "out", tmp_path / "work", tmp_path, notes))
    lines = (tmp_path / "out/scores.jsonl").read_text().split("\n")
    return (
        [json.loads(line) for line in lines if line],
        json.loads((tmp_path / "out/summary.json").read_text()),
        notes.notes,
    )


def test_every_item_is_scored_by_both_models_and_the_means_weigh_tokens(tmp_path, models, data):
    scores, summary, notes = run(tmp_path, models, data)
    assert [one["id"] for one in scores] == ["r0", "r1", "r2", "r3"]
    assert [one["tokens"] for one in scores] == [len("yes " * (i + 1)) + 1 for i in range(4)]
    assert all(one["reference"] < 0 and one["kl"] > 0 and 0 <= one["agreement"] <= 1 for one in scores)
    tokens = sum(one["tokens"] for one in scores)
    assert (summary["items"], summary["answer_tokens"], summary["passes"]) == (4, tokens, 1)
    assert summary["kl"] == pytest.approx(sum(one["kl"] * one["tokens"] for one in scores) / tokens, abs=1e-6)
    assert summary["merged_nats_per_token"] == pytest.approx(
        -sum(one["reference"] for one in scores) / tokens, abs=1e-6
    )
    assert "at most 1 GB of hidden states" in notes[0] and "1 pass over" in notes[0]


def test_items_are_those_of_the_evaluation(tmp_path, models, data):
    scores, *_ = run(tmp_path, models, data, max_items=2)
    assert [one["id"] for one in scores] == ["r0", "r1"]


def test_a_model_that_cannot_be_streamed_is_refused_where_required_and_said_where_not(tmp_path, models, data):
    merged, made = models
    strange = tmp_path / "strange"
    strange.mkdir()
    copy_small_files(merged.path, strange)
    (strange / "virtual.json").write_bytes((merged.path / "virtual.json").read_bytes())
    document = {**json.loads((strange / "config.json").read_text()), "model_type": "of_nobody"}
    (strange / "config.json").write_text(json.dumps(document))
    strange = sealed(Checkpoint, strange)
    (tmp_path / "one").mkdir()
    with pytest.raises(CheckpointError, match="of_nobody"):
        run(tmp_path / "one", (strange, made), data)
    (tmp_path / "two").mkdir()
    scores, summary, notes = run(tmp_path / "two", (strange, made), data, required=False)
    assert scores == [] and "of_nobody" in summary["refused"] and summary["items"] == 0
    assert notes == [f"no streamed reference: {summary['refused']}"]

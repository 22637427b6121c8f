"""Both models walked together score answers as transformers does with each of them whole."""

import json
import random

import pytest
import torch
from safetensors.torch import save_file

from slipway.calibration import answer_scores
from slipway.calibration.answers import Answer
from slipway.errors import CheckpointError, DataError
from slipway.streaming import streamed_reference
from slipway.streaming.streamed_reference import SCORES, STATES, Machine, StreamedReference
from slipway.streaming.walk_weights import DequantizedWeights
from slipway.system.progress import Progress
from slipway.weights.dequantized import open_weights
from slipway.weights.model_files import copy_small_files
from slipway.weights.shards import Shards
from tests.support.families import DECODERS, VISION_LANGUAGE, load_family, write_family
from tests.support.stored import fp8_blocks, mxfp4_gpt_oss
from tests.support.streaming import quantized

CPU = torch.device("cpu")
FP32 = Machine(CPU, torch.float32, 1e9)
NOT_QUANTIZED_HERE = {"gpt2"}  # quantize refuses weights that lie [in, out]; walked against itself


def answers(count=5, seed=3):
    """Rows of several lengths, some of whose answers are one token."""
    choose = random.Random(seed)
    rows = []
    for i in range(count):
        length = choose.randint(4, 20)
        tokens = tuple(choose.randrange(8, 360) for _ in range(length))
        rows.append(Answer(f"r{i}", tokens, choose.randint(1, length - 1)))
    return rows


def dequantized(model, made, out):
    """The quantized model as a plain fp32 checkpoint, for transformers to load."""
    source = Shards.open(model)
    weights = DequantizedWeights(made, source, CPU, torch.float32).load(source.names())
    out.mkdir()
    save_file(
        {name: tensor.contiguous() for name, tensor in weights.items()}, out / "model.safetensors", {"format": "pt"}
    )
    copy_small_files(model, out)
    return out


@torch.no_grad()
def by_transformers(a, b, rows):
    """(log-likelihood under a, under b, KL, agreement) of every row, each alone and whole in memory."""
    figures = []
    for row in rows:
        ids = torch.tensor([row.tokens])
        p, q = (model(ids, use_cache=False).logits[0, row.start - 1 : -1].float().log_softmax(-1) for model in (a, b))
        follow = torch.tensor(row.tokens[row.start :])[:, None]
        kl = torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1).mean()
        same = (p.argmax(-1) == q.argmax(-1)).float().mean()
        figures.append([p.gather(1, follow).sum().item(), q.gather(1, follow).sum().item(), kl.item(), same.item()])
    return figures


def made_of(name, folder, **params):
    model = write_family(name, folder / "model")
    if name in NOT_QUANTIZED_HERE:
        return model, model
    return model, quantized(model, folder / "quantized", format="nvfp4a16", **params)


@pytest.mark.parametrize("name", DECODERS + VISION_LANGUAGE)
def test_scores_are_those_of_transformers_on_whole_models(name, tmp_path, monkeypatch):
    monkeypatch.setattr(streamed_reference, "BATCH_TOKENS", 40)
    monkeypatch.setattr(answer_scores, "CHUNK_BYTES", 4 * 384 * 3)  # three positions at a time
    model, made = made_of(name, tmp_path)
    rows = answers()
    whole = load_family(name, model), load_family(name, dequantized(model, made, tmp_path / "plain"))
    expected = by_transformers(*whole, rows)
    walked = StreamedReference(Shards.open(model), model, made, FP32).score(rows, tmp_path, Progress())
    assert [(one.id, one.tokens) for one in walked] == [(row.id, len(row.tokens) - row.start) for row in rows]
    for one, (reference, other, kl, agreement) in zip(walked, expected, strict=True):
        assert one.reference == pytest.approx(reference, abs=2e-3, rel=1e-4)
        assert one.other == pytest.approx(other, abs=2e-3, rel=1e-4)
        assert one.kl == pytest.approx(kl, abs=1e-4, rel=1e-3)
        assert one.agreement == pytest.approx(agreement)
    if made != model:
        assert min(one.kl for one in walked) > 1e-4


def test_experts_that_keep_their_published_codes_differ_in_nothing(tmp_path):
    model = mxfp4_gpt_oss(tmp_path / "model")
    made = quantized(model, tmp_path / "quantized", format="mxfp4", layout="gpt-oss")
    walked = StreamedReference(open_weights(model), model, made, FP32).score(answers(2), tmp_path, Progress())
    assert [(one.kl, one.agreement) for one in walked] == [(0.0, 1.0)] * 2


@pytest.mark.parametrize(
    ("name", "stored"), [("gpt_oss", mxfp4_gpt_oss), ("qwen3", lambda out: fp8_blocks("qwen3", out))]
)
def test_a_base_that_is_published_quantized_is_walked_as_it_is_read(name, stored, tmp_path):
    model = stored(tmp_path / "model")
    made = quantized(model, tmp_path / "quantized", format="nvfp4a16")
    source, plain = open_weights(model), tmp_path / "plain"
    plain.mkdir()
    save_file({n: source.read(n).contiguous() for n in source.names()}, plain / "model.safetensors", {"format": "pt"})
    copy_small_files(model, plain)
    config = json.loads((plain / "config.json").read_text())
    (plain / "config.json").write_text(json.dumps({**config, "quantization_config": None}))
    whole = load_family(name, plain)
    rows = answers(2)
    walked = StreamedReference(source, model, made, FP32).score(rows, tmp_path, Progress())
    for one, (reference, *_) in zip(walked, by_transformers(whole, whole, rows), strict=True):
        assert one.reference == pytest.approx(reference, abs=2e-3, rel=1e-4) and one.kl > 1e-4


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A model and its quantized form, whose head is quantized too."""
    return made_of("llama", tmp_path_factory.mktemp("llama"), exclude=[])


def test_bf16_is_what_transformers_computes_in_bf16(llama):
    model, made = llama
    bf16 = Machine(CPU, torch.bfloat16, 1e9)
    rows = answers(1)  # one row: equal micro-batches, so equal bits
    walked = StreamedReference(Shards.open(model), model, made, bf16)
    whole = load_family("llama", model, torch.bfloat16)
    with torch.no_grad():
        expected = whole(torch.tensor([rows[0].tokens]), use_cache=False).logits
    ((batch,),) = walked.passes(rows)
    stream, _ = walked._embed([batch])
    for layer in walked.walk.layers:
        with walked.walk.load(layer) as module:
            walked.walk.run(layer, module, stream)
    with walked.walk.head() as head:
        assert torch.equal(head(stream.values[0]), expected)


def test_passes_of_a_small_budget_give_the_same_scores(llama, tmp_path, monkeypatch):
    monkeypatch.setattr(streamed_reference, "BATCH_TOKENS", 40)
    model, made = llama
    rows = answers(12)
    source = Shards.open(model)
    once = StreamedReference(source, model, made, FP32)
    often = StreamedReference(source, model, made, Machine(CPU, torch.float32, 40 * 2 * 64 * 4.0))
    assert len(once.passes(rows)) == 1 < len(often.passes(rows))
    assert all(sum(b.tokens.numel() for b in group) <= 40 for group in often.passes(rows))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    scores = once.score(rows, tmp_path / "a", Progress())
    assert [one.id for one in scores] == [row.id for row in rows]
    assert scores == often.score(rows, tmp_path / "b", Progress())
    assert not (tmp_path / "b" / STATES).exists()


class Killed(Exception):
    """Stands for the end of the process."""


class DiesAt(Progress):
    """Ends the walk at a step, as a kill would: nothing after it is run."""

    def __init__(self, step):
        super().__init__()
        self.step, self.steps = step, []

    def update(self, what, done, total, unit, **figures):
        self.steps.append((done, total, figures["over_weights"]))
        if done == self.step:
            raise Killed


@pytest.mark.parametrize(("step", "begins"), [(3, 3), (6, 5)])
def test_a_killed_walk_goes_on_at_the_layer_and_pass_where_it_was(llama, tmp_path, monkeypatch, step, begins):
    monkeypatch.setattr(streamed_reference, "SAVE_EVERY_S", -1.0)
    monkeypatch.setattr(streamed_reference, "BATCH_TOKENS", 40)
    model, made = llama
    rows = answers(6)
    source = Shards.open(model)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    machine = Machine(CPU, torch.float32, 100 * 2 * 64 * 4.0)
    whole = StreamedReference(source, model, made, machine)
    assert len(whole.passes(rows)) == 2
    expected = whole.score(rows, tmp_path / "a", Progress())
    with pytest.raises(Killed):
        StreamedReference(source, model, made, machine).score(rows, tmp_path / "b", DiesAt(step))
    again = DiesAt(-1)
    assert StreamedReference(source, model, made, machine).score(rows, tmp_path / "b", again) == expected
    assert again.steps[0][:2] == (begins, 8) and again.steps[-1] == (8, 8, "2 of 2")


def test_a_damaged_state_file_is_as_good_as_none(llama, tmp_path):
    model, made = llama
    walked, rows = StreamedReference(Shards.open(model), model, made, FP32), answers(3)
    (tmp_path / STATES).write_bytes(b"\0" * 9)
    assert len(walked.score(rows, tmp_path, Progress())) == 3
    lines = (tmp_path / SCORES).read_text().split("\n")
    assert sorted(json.loads(line)["id"] for line in lines if line) == ["r0", "r1", "r2"]


def test_a_row_longer_than_the_model_reads_is_named(llama, tmp_path):
    model, made = llama
    walked = StreamedReference(Shards.open(model), model, made, FP32)
    with pytest.raises(DataError, match="row long: 257 tokens; expected at most 256"):
        walked.score([Answer("long", (9,) * 257, 4)], tmp_path, Progress())


def test_weights_in_an_unknown_form_are_named(llama, tmp_path):
    model, made = llama
    tensors = {name: Shards.open(made).read(name) for name in Shards.open(made).names()}
    scale = "model.layers.0.mlp.up_proj.weight_scale"
    tensors[scale] = tensors[scale][:, :1].contiguous()
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"tensor model.layers.0.mlp.up_proj.weight: stored as torch.uint8"):
        StreamedReference(Shards.open(model), model, tmp_path, FP32)

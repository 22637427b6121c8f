"""The streamed reference on CUDA in bf16: the figures of transformers with the model whole, in bounded GPU memory."""

import pytest
import torch

from slipway.calibration.answers import Answer
from slipway.streaming.streamed_reference import Machine, StreamedReference
from slipway.system.progress import Progress
from slipway.weights.shards import Shards
from tests.support.families import load_family, write_family
from tests.support.streaming import quantized


@pytest.mark.parametrize("name", ["llama", "gemma2", "qwen3_moe"])
def test_scores_are_those_of_transformers(tmp_path, name):
    model = write_family(name, tmp_path / "model")
    made = quantized(model, tmp_path / "quantized", format="nvfp4a16")
    draw = torch.Generator().manual_seed(3)
    rows = [Answer(f"r{n}", tuple(torch.randint(8, 360, (n,), generator=draw).tolist()), n // 2) for n in (9, 20, 31)]
    machine = Machine(torch.device("cuda"), torch.bfloat16, 1e9)
    scores = StreamedReference(Shards.open(model), model, made, machine).score(rows, tmp_path, Progress())
    whole = load_family(name, model, torch.bfloat16).cuda()
    for row, one in zip(rows, scores, strict=True):
        with torch.no_grad():
            logits = whole(torch.tensor([row.tokens], device="cuda"), use_cache=False).logits[0, row.start - 1 : -1]
        follow = torch.tensor(row.tokens[row.start :], device="cuda")[:, None]
        expected = logits.float().log_softmax(-1).gather(1, follow).sum().item()
        assert one.reference / one.tokens == pytest.approx(expected / one.tokens, abs=0.05)  # bf16, other micro-batches
        assert one.kl > 0


def test_memory_does_not_grow_with_the_layers(tmp_path):
    """Twice the layers, the same peak: what is held is two layers, not the model."""
    from benchmarks.synthetic import Shape, write_model

    peaks = []
    for layers in (4, 8):
        folder = tmp_path / str(layers)
        write_model(Shape(layers, 1024, 4096, 8, 8, 512), folder, "cuda")
        made = quantized(folder, tmp_path / f"q{layers}", format="nvfp4a16")
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        walk = StreamedReference(Shards.open(folder), folder, made, Machine(torch.device("cuda"), torch.bfloat16, 1e9))
        work = tmp_path / f"work{layers}"
        work.mkdir()
        walk.score([Answer("r", tuple(range(1, 65)), 32)], work, Progress())
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[1] < 1.1 * peaks[0]

"""What rounding costs: max, mse and gptq to weight-only NVFP4 on one model, one JSON line each.

`python benchmarks/quality.py MODEL_DIR [--tokens 16384] [--held-out 4096] [--rows TRAIN.jsonl TEST.jsonl]`

Text: the language reference that every Python carries, calibration and held-out sections apart, or chat rows. All
Linears but lm_head are quantized; the network computes in fp32. KL is of the bf16 weights' distribution to the
quantized one's, mean over held-out tokens, in nats. `output_mse`: the relative error of each layer's output on held-out
text, and its mean.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from pydoc_data.topics import topics

import torch
from transformers import AutoTokenizer

from slipway.calibration.divergence import divergence
from slipway.calibration.layer_walk import HiddenStates, LayerWalk
from slipway.quantization import fp4
from slipway.quantization.fusion import groups
from slipway.quantization.gptq import quantize
from slipway.quantization.hessian import Moments, compensated
from slipway.quantization.scale_search import search
from slipway.weights.shards import Shards

_LENGTH = 512  # tokens of a sequence
METHODS = ("max", "mse", "gptq")


class Inputs:
    """Observer that keeps the inputs of the first weight of each group."""

    def __init__(self, leaders: set[str]) -> None:
        self.leaders, self.latest = leaders, dict[str, torch.Tensor]()

    def linear(self, names, x, expert) -> None:
        if names[0] in self.leaders and expert is None:
            self.latest[names[0]] = x

    def attention(self, layer, key, value) -> None:
        """Not needed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--held-out", type=int, default=4096)
    parser.add_argument("--rows", type=Path, nargs=2)
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    texts = chats(tokenizer, args.rows) if args.rows else language_reference()
    calibration, held_out = (
        sequences(tokenizer, text, n) for text, n in zip(texts, (args.tokens, args.held_out), strict=True)
    )
    for figures in measure(args.model, calibration, held_out):
        print(json.dumps(figures))


def language_reference() -> tuple[str, str]:
    names = sorted(topics)
    parts = ([n for i, n in enumerate(names) if i % 5 != 2], names[2::5])
    return tuple("\n\n".join(topics[name].strip() for name in part) for part in parts)


def chats(tokenizer, files) -> list[str]:
    rows = [[json.loads(line)["messages"] for line in file.read_text().splitlines()] for file in files]
    return ["".join(tokenizer.apply_chat_template(messages, tokenize=False) for messages in split) for split in rows]


def sequences(tokenizer, text: str, tokens: int) -> torch.Tensor:
    """int64 [N, 512], spread evenly over the text."""
    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    ids = ids[: len(ids) // _LENGTH * _LENGTH].view(-1, _LENGTH)
    return ids[torch.linspace(0, len(ids) - 1, min(len(ids), tokens // _LENGTH)).round().long()]


def measure(model: Path, calibration: torch.Tensor, held_out: torch.Tensor) -> list[dict[str, object]]:
    source = Shards.open(model)
    walk = LayerWalk(model, source, dtype=torch.float32)
    exact, carried = walk.embed(calibration), walk.embed(calibration)
    truth = walk.embed(held_out, micro_batch=1)
    judged = {method: truth.clone() for method in METHODS}
    sums = {method: {"weight": [0.0, 0.0], "output": list[float](), "seconds": 0.0} for method in METHODS}
    for layer in walk.layers:
        weights, fused = {name: source.read(name) for name in layer.names}, groups(layer.linears, "fused")
        start = time.monotonic()
        with walk.load(layer, weights) as module:
            originals = exact_inputs(walk, layer, module, exact, fused)
            sums["mse"]["seconds"] += (passed := time.monotonic() - start)
            sums["gptq"]["seconds"] += passed
            walk.run(layer, module, truth)
        for method in METHODS:
            start = time.monotonic()
            if method == "gptq":
                rounded = gptq_layer(walk, layer, weights, fused, originals, carried)
            else:
                rounded = searched_layer(method, weights, fused, originals)
            sums[method]["seconds"] += time.monotonic() - start
            add_weight_error(sums[method]["weight"], weights, rounded)
            with walk.load(layer, {**weights, **rounded}) as module:
                walk.run(layer, module, judged[method])
            sums[method]["output"].append(relative_error(truth, judged[method]))
    return [
        {
            "method": method,
            **compared(walk, truth, judged[method], held_out),
            "weight_mse": sums[method]["weight"][0] / sums[method]["weight"][1],
            "output_mse": sum(sums[method]["output"]) / len(walk.layers),
            "output_mse_by_layer": [round(error, 6) for error in sums[method]["output"]],
            "seconds": round(sums[method]["seconds"], 1),
            "calibration_tokens": calibration.numel() if method != "max" else 0,
        }
        for method in METHODS
    ]


def exact_inputs(walk, layer, module, exact: HiddenStates, fused) -> list[dict[str, torch.Tensor]]:
    """The bf16 network's inputs, per micro-batch by the first weight of each group in the order of computation; it
    moves on."""
    batches = []
    inputs = Inputs({names[0] for names in fused})
    for i, output in enumerate(walk.outputs(layer, module, exact, inputs)):
        batches.append(inputs.latest)
        inputs.latest, exact.values[i] = {}, output
    return batches


def searched_layer(method: str, weights, fused, originals) -> dict[str, torch.Tensor]:
    """Dequantized weights by name, by `max` or `mse`."""
    rounded = {}
    for names in fused:
        stacked = torch.cat([weights[name] for name in names])
        g = fp4.global_scale(stacked.abs().amax())
        if method == "mse":
            scales = search(stacked, g, sum(batch[names[0]].square().sum(0) for batch in originals))
        else:
            scales = fp4.block_scales(stacked, g)
        rounded |= split(names, weights, fp4.dequantize(fp4.round_to(stacked, scales, g), scales, g))
    return rounded


def gptq_layer(walk, layer, weights, fused, originals, carried: HiddenStates) -> dict[str, torch.Tensor]:
    """Dequantized weights by name; `carried` moves on. Each group sees inputs that come through the groups rounded
    before it."""
    rounded: dict[str, torch.Tensor] = {}
    members = {names[0]: names for names in fused}
    for leader in originals[0]:
        stacked = torch.cat([weights[name] for name in members[leader]])
        moments = Moments(leader, stacked.shape[1], drift=True)
        inputs = Inputs({leader})
        with walk.load(layer, {**weights, **rounded}) as module:
            for batch, _ in zip(originals, walk.outputs(layer, module, carried, inputs), strict=True):
                moments.add(inputs.latest[leader], batch[leader])
        moments.check()
        wanted = compensated(stacked, moments.hessian, moments.drift)
        g = fp4.global_scale(wanted.abs().amax())
        packed, scales = quantize(wanted, g, moments.hessian)
        rounded |= split(members[leader], weights, fp4.dequantize(packed, scales, g))
    with walk.load(layer, {**weights, **rounded}) as module:
        walk.run(layer, module, carried)
    return rounded


def split(names, weights, stacked: torch.Tensor) -> dict[str, torch.Tensor]:
    return dict(zip(names, stacked.split([len(weights[name]) for name in names]), strict=True))


def add_weight_error(sums: list[float], weights, rounded) -> None:
    for name, w_hat in rounded.items():
        sums[0] += (weights[name].float() - w_hat).square().sum().item()
        sums[1] += weights[name].float().square().sum().item()


def compared(walk, truth: HiddenStates, judged: HiddenStates, tokens: torch.Tensor) -> dict[str, float]:
    """KL in nats and perplexities over the predictions of `tokens` [N, T]."""
    with walk.head() as head:
        result = divergence(head, truth, judged, tokens)
    return {"kl": result.kl, "perplexity": result.perplexity, "bf16_perplexity": result.reference_perplexity}


def relative_error(truth: HiddenStates, judged: HiddenStates) -> float:
    pairs = [(a[:, 1:], b[:, 1:]) for a, b in zip(truth.values, judged.values, strict=True)]
    return sum(((a - b).square().sum(-1) / a.square().sum(-1)).mean().item() for a, b in pairs) / len(pairs)


if __name__ == "__main__":
    main()

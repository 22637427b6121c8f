"""What rounding costs: max, mse and gptq to weight-only NVFP4 on one model, one JSON line each.

`python benchmarks/quality.py MODEL_DIR [--tokens 16384] [--held-out 4096] [--rows TRAIN.jsonl TEST.jsonl]`

Text: the language reference that every Python carries, calibration and held-out sections apart, or chat rows. All Linears
but lm_head are quantized; the network computes in fp32. KL is of the bf16 weights' distribution to the quantized one's, mean
over held-out tokens, in nats. `output_mse`: the error of each matmul's outputs on the calibration inputs, relative, mean.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from pydoc_data.topics import topics

import torch
from transformers import AutoTokenizer

from slipway import fp4
from slipway.curvature import Moments, compensated
from slipway.fusion import groups
from slipway.gptq import quantize
from slipway.layerwise import HiddenStates, LayerWalk
from slipway.scale_search import search
from slipway.shards import Shards

_LENGTH = 512  # tokens of a sequence
METHODS = ("max", "mse", "gptq")


class Inputs:
    """Observer that keeps the inputs of the first weight of each group."""

    def __init__(self, leaders: set[str]) -> None:
        self.leaders, self.seen = leaders, dict[str, torch.Tensor]()

    def linear(self, names, x, expert) -> None:
        if names[0] in self.leaders and expert is None:
            self.seen[names[0]] = x

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
    calibration, held_out = (sequences(tokenizer, text, n) for text, n in zip(texts, (args.tokens, args.held_out), strict=True))
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
    sums = {method: {"weight": [0.0, 0.0], "output": 0.0, "seconds": 0.0} for method in METHODS}
    for layer in walk.layers:
        weights = {name: source.read(name) for name in layer.names}
        found = groups(layer.linears, "fused")
        with walk.load(layer, weights) as module:
            start = time.monotonic()
            plain, drifted = moments(walk, layer, module, exact, carried, found)
            seconds = time.monotonic() - start
            walk.run(layer, module, truth)
        for method in METHODS:
            start = time.monotonic()
            rounded = round_layer(method, weights, found, plain, drifted, sums[method])
            with walk.load(layer, {**weights, **rounded}) as module:
                if method == "gptq":
                    walk.run(layer, module, carried)
                sums[method]["seconds"] += time.monotonic() - start + (seconds if method != "max" else 0)
                walk.run(layer, module, judged[method])
            sums[method]["output"] += relative_error(truth, judged[method]) / len(walk.layers)
    return [
        {
            "method": method,
            **divergence(walk, truth, judged[method], held_out),
            "weight_mse": sums[method]["weight"][0] / sums[method]["weight"][1],
            "output_mse": sums[method]["output"],
            "seconds": round(sums[method]["seconds"], 1),
            "calibration_tokens": calibration.numel() if method != "max" else 0,
        }
        for method in METHODS
    ]


def moments(walk, layer, module, exact: HiddenStates, carried: HiddenStates, found) -> tuple[dict[str, Moments], dict[str, Moments]]:
    """Both streams through the bf16 layer, side by side; `exact` moves on. By the first weight of each group."""
    leaders = {names[0] for names in found}
    one, two = Inputs(leaders), Inputs(leaders)
    plain, drifted = {}, {}
    pairs = zip(walk.outputs(layer, module, exact, one), walk.outputs(layer, module, carried, two), strict=True)
    for i, (output, _) in enumerate(pairs):
        for name in sorted(leaders):
            x0, x = one.seen[name], two.seen[name]
            plain.setdefault(name, Moments(name, x.shape[1])).add(x0)
            drifted.setdefault(name, Moments(name, x.shape[1], drift=True)).add(x, x0)
        exact.values[i] = output
    return plain, drifted


def round_layer(method: str, weights, found, plain, drifted, sums) -> dict[str, torch.Tensor]:
    """Dequantized weights by name."""
    rounded = {}
    for names in found:
        stacked, sizes = torch.cat([weights[name] for name in names]), [len(weights[name]) for name in names]
        g = fp4.global_scale(stacked.abs().amax())
        if method == "gptq":
            wanted = compensated(stacked, drifted[names[0]].hessian, drifted[names[0]].drift)
            g = fp4.global_scale(wanted.abs().amax())
            packed, scales = quantize(wanted, g, drifted[names[0]].hessian)
        else:
            scales = search(stacked, g, plain[names[0]].hessian.diagonal()) if method == "mse" else fp4.block_scales(stacked, g)
            packed = fp4.round_to(stacked, scales, g)
        w_hat = fp4.dequantize(packed, scales, g)
        exact = stacked.float()
        e = exact - w_hat
        sums["weight"][0] += e.square().sum().item()
        sums["weight"][1] += exact.square().sum().item()
        rounded |= dict(zip(names, w_hat.split(sizes), strict=True))
    return rounded


def relative_error(truth: HiddenStates, judged: HiddenStates) -> float:
    pairs = [(a[:, 1:], b[:, 1:]) for a, b in zip(truth.values, judged.values, strict=True)]
    return sum(((a - b).square().sum(-1) / a.square().sum(-1)).mean().item() for a, b in pairs) / len(pairs)


def divergence(walk, truth: HiddenStates, judged: HiddenStates, tokens: torch.Tensor) -> dict[str, float]:
    """KL and perplexities, sequence by sequence."""
    kl = loss = reference = 0.0
    with walk.head() as head:
        for hidden, other, ids in zip(truth.values, judged.values, tokens, strict=True):
            p, q = (torch.log_softmax(head(states)[0].float(), -1) for states in (hidden, other))
            kl += (p.exp() * (p - q)).sum().item() / tokens.numel()
            reference -= p[:-1].gather(1, ids[1:, None]).mean().item() / len(tokens)
            loss -= q[:-1].gather(1, ids[1:, None]).mean().item() / len(tokens)
    return {"kl": kl, "perplexity": math.exp(loss), "bf16_perplexity": math.exp(reference)}


if __name__ == "__main__":
    main()

"""The lab's model: next byte from this byte, through LoRA pairs shaped like the base model's projections.

    z(c) = sum_m  s . R_m B_m A_m E_m[c]          c: byte, z: 256 logits, s = alpha / r
    loss = mean over label bytes of  -log softmax(z(prev))[next]

`A_m` (r, in_m) and `B_m` (out_m, r) are what NeMo would train on module m; `E_m` (256, in_m) and `R_m` (256, out_m) are
fixed random maps, so a pair of any shape learns. B starts at zero, so the first loss is ln 256 = 5.545 and every later
one is earned. Only the bytes of assistant turns are labels, as in NeMo's ChatDataset. Pairs beyond the first `TRAINED`
keep their start. Plain SGD needs larger steps than AdamW: the recipe's learning rate is taken times `SGD_SCALE`, so
1e-4 trains.
"""

from __future__ import annotations

import fnmatch
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

TRAINED = 8
SGD_SCALE = 1000.0
FALLBACK = {f"model.layers.{i}.self_attn.{p}_proj": (64, 64) for i in range(2) for p in "qv"}


def module_shapes(model_dir: str | None, patterns: str | list[str]) -> dict[str, tuple[int, int]]:
    """Module name -> (out, in) of the linear layers that the recipe's `target_modules` name, from the safetensors
    headers."""
    if model_dir is None:
        return dict(FALLBACK)
    directory = Path(model_dir)
    json.loads(
        (directory / "config.json").read_text()
    )  # a model that cannot be read ends the job here, as NeMo's load does
    wanted = [patterns] if isinstance(patterns, str) else list(patterns)
    shapes = {}
    for file in sorted(directory.glob("*.safetensors")):
        for name, entry in _header(file).items():
            module, _, last = name.rpartition(".")
            if last == "weight" and len(entry["shape"]) == 2 and any(_matches(module, p) for p in wanted):
                shapes[module] = (entry["shape"][0], entry["shape"][1])
    if not shapes:
        raise ValueError(f"no linear layer of {model_dir} matches target_modules {wanted}")
    return shapes


def _header(file: Path) -> dict[str, Any]:
    with file.open("rb") as f:
        doc = json.loads(f.read(int.from_bytes(f.read(8), "little")))
    doc.pop("__metadata__", None)
    return dict(doc)


def _matches(module: str, pattern: str) -> bool:
    return fnmatch.fnmatch(module, pattern) or module.rpartition(".")[2] == pattern


def read_labelled(folder: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same of rows that were labelled already: a token counts as the byte of its id modulo 256."""
    tokens, labels, offsets = (np.load(Path(folder) / f"{name}.npy") for name in ("tokens", "labels", "offsets"))
    rows = [slice(start, end) for start, end in itertools.pairwise(offsets)]
    return [((tokens[row] % 256).astype(np.uint8), labels[row] >= 0) for row in rows]


def read_samples(path: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """One sample a line: bytes (n,) uint8, and which of them are labels (n,) bool."""
    samples = []
    for line in Path(path).read_text().splitlines():
        text, label = bytearray(), []
        for turn in json.loads(line)["messages"]:
            turn_bytes = f"{turn['content']}\n".encode()
            text += turn_bytes
            label += [turn["role"] == "assistant"] * len(turn_bytes)
        samples.append((np.frombuffer(bytes(text), np.uint8), np.array(label)))
    return samples


class Pairs:
    """LoRA pairs with SGD momentum. `weights` are what the adapter file holds, `momentum` what the optimizer state
    holds."""

    def __init__(self, shapes: dict[str, tuple[int, int]], rank: int, alpha: float, seed: int) -> None:
        self.rank, self.alpha, self.trained = rank, alpha, list(shapes)[:TRAINED]
        rng = np.random.default_rng(seed)
        self.weights: dict[str, np.ndarray] = {}
        self._maps: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for module, (out, into) in shapes.items():
            self.weights[f"{module}.lora_A"] = rng.uniform(-1, 1, (rank, into)).astype(np.float32) / into**0.5
            self.weights[f"{module}.lora_B"] = np.zeros((out, rank), np.float32)
            if module in self.trained:
                embed, read = (rng.standard_normal((256, n)).astype(np.float32) for n in (into, out))
                self._maps[module] = (embed, read)
        self.momentum = {k: np.zeros_like(v) for k, v in self.weights.items() if k.rpartition(".")[0] in self._maps}

    def _pairs(self) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        for module, (embed, read) in self._maps.items():
            yield module, self.weights[f"{module}.lora_A"], self.weights[f"{module}.lora_B"], embed, read

    def gradients(self, batch: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, dict[str, np.ndarray]]:
        """Mean loss over the batch's label bytes, and its gradient. Work is 256 x 256 counts, not one row a byte."""
        counts = np.zeros((256, 256), np.float32)  # [prev, next]
        for text, label in batch:
            np.add.at(counts, (text[:-1][label[1:]], text[1:][label[1:]]), 1)
        total, scale = max(counts.sum(), 1.0), self.alpha / self.rank
        z = sum(scale * ((e @ a.T) @ b.T) @ r.T / r.shape[1] ** 0.5 for _, a, b, e, r in self._pairs())
        logp = z - z.max(1, keepdims=True)
        logp = logp - np.log(np.exp(logp).sum(1, keepdims=True))
        dz = (np.exp(logp) * counts.sum(1, keepdims=True) - counts) / total  # (256 prev, 256 next)
        grads = {}
        for module, a, b, e, r in self._pairs():
            db = scale * dz @ r / r.shape[1] ** 0.5  # d loss / d (B A E), rows by prev byte: (256, out)
            grads[f"{module}.lora_B"] = db.T @ (e @ a.T)
            grads[f"{module}.lora_A"] = (db @ b).T @ e
        return float(-(counts * logp).sum() / total), grads

    def step(self, grads: dict[str, np.ndarray], lr: float, max_norm: float) -> float:
        """One clipped SGD step, momentum 0.9; returns the norm before clipping."""
        norm = float(np.sqrt(sum(float((g * g).sum()) for g in grads.values())))
        shrink = min(1.0, max_norm / (norm + 1e-6))
        for name, grad in grads.items():
            self.momentum[name] = 0.9 * self.momentum[name] + grad * shrink
            self.weights[name] = self.weights[name] - lr * SGD_SCALE * self.momentum[name]
        return norm

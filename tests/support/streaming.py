"""Quantizing a directory in tests: run it, look at the files, run it as the ordinary model would be run."""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM

from slipway.config.quantize import CalibrationConfig, QuantizeConfig
from slipway.quantization import fusion, stacked_experts
from slipway.quantization.formats import FORMATS
from slipway.quantization.layouts import LAYOUTS
from slipway.streaming.directories import quantize_directory
from slipway.system.progress import Progress
from slipway.weights.shards import Shards
from tests.oracles.modelopt_oracle import tensors

CALIBRATED = ("nvfp4", "fp8")
LAYOUT_OF = {"mxfp4": "compressed-tensors"}  # the only one that takes it
FEW = CalibrationConfig(samples=6, length=24, micro_batch=1)


def config(*, sequences: CalibrationConfig = FEW, **params: Any) -> QuantizeConfig:
    """Quick, and the same whatever the machine: two threads, eager, on the CPU."""
    layout = LAYOUT_OF.get(params.get("format", ""), "modelopt")
    return QuantizeConfig(
        **{"device": "cpu", "compile": "off", "workers": 2, "layout": layout, "calibration": sequences, **params}
    )


def quantized(
    model: Path,
    out: Path,
    *,
    adapter: Path | None = None,
    calibration: Path | None = None,
    progress: Progress | None = None,
    **params: Any,
) -> Path:
    """Quantize `model` as `config(**params)` says, on the rows of `calibration`."""
    quantize_directory(model, adapter, calibration, out, config(**params), progress or Progress())
    return out


def files(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` by its relative path, with its bytes."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def same(one: Path, other: Path) -> bool:
    """Whether two model directories hold the same tensors, bit for bit, however they are cut into shards."""

    def raw(folder: Path) -> dict[str, Any]:
        return {
            n: (t.dtype, tuple(t.shape), t.reshape(-1).view(torch.uint8).numpy().tobytes())
            for n, t in tensors(folder).items()
        }

    return raw(one) == raw(other)


def calibration_rows(file: Path, *, rows: int = 40, seed: int = 0) -> Path:
    """Rows of text in the pico tokenizer's letters, some of them chats."""
    choose = random.Random(seed)

    def sentence() -> str:
        return " ".join("".join(choose.choices("abcdefgh", k=choose.randint(1, 6))) for _ in range(6))

    lines = [
        {"text": sentence()} if i % 3 else {"messages": [{"role": "user", "content": sentence()}]} for i in range(rows)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def numbers_tokenizer(model: Path, vocabulary: int) -> Path:
    """A tokenizer whose text is the token ids, for the tiny models of other families."""
    tokenizer = Tokenizer(models.WordLevel({str(i): i for i in range(vocabulary)}, unk_token="0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(model / "tokenizer.json"))
    (model / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "0"})
    )
    return model


def numbers_rows(file: Path, tokens: torch.Tensor) -> Path:
    """Write rows of token ids as text, for a model with `numbers_tokenizer`."""
    file.write_text("".join(json.dumps({"text": " ".join(str(int(i)) for i in row)}) + "\n" for row in tokens))
    return file


def decoded(model: Path, out: Path, fmt: str, layout: str = "modelopt") -> dict[str, torch.Tensor]:
    """fp32 weights that a runtime computes with, under the names of the model that was quantized."""
    source, written, place = Shards.open(model), tensors(out), LAYOUTS[layout]
    values = {}
    for name in source.names():
        info = source.info(name)
        places = (
            place.places(fusion.module(name), FORMATS[fmt], stacked_experts.as_rows(info))
            if len(info.shape) > 1
            else {}
        )
        stored = {role: written[p.name] for role, p in places.items() if role != "input" and p.name in written}
        if "weight" in stored and stored["weight"].dtype != torch.bfloat16:
            value = place.decode(FORMATS[fmt], stored)
            values[name] = stacked_experts.restacked(value, info) if len(info.shape) == 3 else value
        else:
            values[name] = written[name].float()
    return values


def ordinary(model: Path, weights: Mapping[str, torch.Tensor] | None = None) -> torch.nn.Module:
    """transformers' own model in fp32, with other weights if given."""
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    if weights:
        network.load_state_dict(dict(weights), strict=False)
    return network

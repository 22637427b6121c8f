"""The public way to the same checkpoint: PEFT's merge_and_unload, nvidia-modelopt's quantize and export; prints one
JSON line.

`python -m benchmarks.peer_modelopt ROUTE MODEL ADAPTER WORK --format nvfp4a16|nvfp4`

`documented`: load on the CPU, merge, save in bf16, load on the device, quantize, export: what both projects' guides
say. `shortest`: load on the device, merge there, quantize, export: nothing written twice; needs a device that holds the
model. W4A4 is calibrated with 128 x 512 random token ids, four sequences at a time. Imports are not in any phase.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import modelopt.torch.quantization as mtq
import torch
from modelopt.torch.export import export_hf_checkpoint
from peft import PeftModel
from transformers import AutoModelForCausalLM

from benchmarks.ours import gpu_figures

CONFIGS = {"nvfp4a16": "W4A16_NVFP4_CFG", "nvfp4": "NVFP4_DEFAULT_CFG"}
_BATCHES, _BATCH = 32, (4, 512)


class Phases:
    """Seconds of each named part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds[name] = round(time.monotonic() - start, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("route", choices=("documented", "shortest"))
    parser.add_argument("model", type=Path)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--format", choices=CONFIGS, default="nvfp4a16")
    args = parser.parse_args()
    phase, device = Phases(), "cuda" if torch.cuda.is_available() else "cpu"
    with contextlib.redirect_stdout(sys.stderr):
        start = time.monotonic()
        route = through_a_merged_checkpoint if args.route == "documented" else merged
        model = route(args, phase, device)
        quantize_and_export(model, args, phase, device)
        call = time.monotonic() - start
    print(json.dumps({"call_s": round(call, 2), "phases_s": phase.seconds, **gpu_figures()}))


def merged(args: argparse.Namespace, phase: Phases, device: str) -> torch.nn.Module:
    with phase("load"):
        model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.bfloat16, device_map=device)
        model = PeftModel.from_pretrained(model, str(args.adapter))
    with phase("merge"):
        return model.merge_and_unload()


def through_a_merged_checkpoint(args: argparse.Namespace, phase: Phases, device: str) -> torch.nn.Module:
    model = merged(args, phase, "cpu")
    with phase("save"):
        model.save_pretrained(args.work / "merged")
    del model
    with phase("load_again"):
        return AutoModelForCausalLM.from_pretrained(args.work / "merged", dtype=torch.bfloat16, device_map=device)


def quantize_and_export(model: torch.nn.Module, args: argparse.Namespace, phase: Phases, device: str) -> None:
    def calibrate(model: torch.nn.Module) -> None:
        with torch.inference_mode():
            for _ in range(_BATCHES):
                model(torch.randint(model.config.vocab_size, _BATCH, device=device))

    with phase("quantize"):
        config = copy.deepcopy(getattr(mtq, CONFIGS[args.format]))
        mtq.quantize(model, config, forward_loop=calibrate if args.format == "nvfp4" else None)
    with phase("export"):
        export_hf_checkpoint(model, export_dir=args.work / "exported")


if __name__ == "__main__":
    main()

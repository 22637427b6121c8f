"""NVIDIA's own calibrate, quantize and export, in a process of its own, and the comparison with ours.

`python -m tests.oracles.modelopt_oracle JSON` with a list of jobs: the import of modelopt takes longer than its work.
Calibration runs the given token ids through the model: its quantizers only look then, so that NVFP4 needs no CUDA.
"""

import copy
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Job:
    """What modelopt shall make: `others` gives modules by pattern another format, `exclude` keeps them in bf16."""

    format: str
    model: Path
    out: Path
    tokens: tuple[tuple[int, ...], ...] = ()  # calibration, a sequence each; none: weights only
    kv_cache: bool = False
    exclude: tuple[str, ...] = ()
    others: dict[str, str] = field(default_factory=dict)
    device: str = "cpu"


def export(*jobs: Job) -> None:
    """Run modelopt for each job."""
    document = json.dumps([asdict(job) for job in jobs], default=str)
    command = [sys.executable, "-W", "ignore", "-m", "tests.oracles.modelopt_oracle", document]
    one = {"OMP_NUM_THREADS": "1"} if all(job.device == "cpu" for job in jobs) else {}  # as the tests' own processes
    ran = subprocess.run(command, cwd=ROOT, env={**os.environ, **one}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-4000:]


def differences(ours: Path, theirs: Path) -> list[str]:
    """Names of tensors that are not equal bit for bit, and config documents that differ beyond their producer."""
    a, b = tensors(ours), tensors(theirs)
    names = sorted(a.keys() ^ b.keys())
    names += [n for n in sorted(a.keys() & b.keys()) if not identical(a[n], b[n])]
    return names + document_differences(ours, theirs)


def document_differences(ours: Path, theirs: Path) -> list[str]:
    """Names of the config documents that differ beyond their producer."""
    quantization = [json.loads((d / "config.json").read_text())["quantization_config"] for d in (ours, theirs)]
    documents = [json.loads((d / "hf_quant_config.json").read_text()) for d in (ours, theirs)]
    pairs = {"config.json": quantization, "hf_quant_config.json": documents}
    return [name for name, (mine, other) in pairs.items() if _comparable(mine) != _comparable(other)]


def _comparable(document: dict) -> dict:
    """Without producer; groups without the number that the order of modules gave them."""
    groups = sorted(json.dumps(group, sort_keys=True) for group in document.get("config_groups", {}).values())
    return {**document, "producer": None, "config_groups": groups}


def identical(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors have one dtype, one shape and the same bits."""
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(_raw(a), _raw(b))


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a model directory by its name."""
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def _raw(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def _configs() -> dict[str, dict]:
    import modelopt.torch.quantization as mtq

    return {
        "nvfp4": mtq.NVFP4_DEFAULT_CFG,
        "nvfp4a16": mtq.W4A16_NVFP4_CFG,
        "mxfp4": mtq.MXFP4_DEFAULT_CFG,
        "fp8": mtq.FP8_DEFAULT_CFG,
        "fp8-dynamic": mtq.FP8_PER_CHANNEL_PER_TOKEN_CFG,
    }


def _quantizers(fmt: str, kind: str) -> dict:
    """How a format sets the weight or input quantizer."""
    rules = _configs()[fmt]["quant_cfg"]
    return next((rule for rule in rules if rule["quantizer_name"] == f"*{kind}_quantizer"), {"enable": False})


def _rules(job: dict) -> list[dict]:
    import modelopt.torch.quantization as mtq

    rules = []
    for pattern, fmt in job["others"].items():
        rules += [
            {**_quantizers(fmt, kind), "quantizer_name": f"*{pattern}*{kind}_quantizer*"}
            for kind in ("weight", "input")
        ]
    rules += [{"quantizer_name": f"*{pattern}.*", "enable": False} for pattern in job["exclude"]]
    return rules + (mtq.FP8_KV_CFG["quant_cfg"] if job["kv_cache"] else [])


def main(jobs: list[dict]) -> None:
    """Quantize and export with modelopt, in a process of its own: it patches torch."""
    import modelopt.torch.quantization as mtq
    from modelopt.torch.export import export_hf_checkpoint
    from transformers import AutoModelForCausalLM

    for job in jobs:
        model = AutoModelForCausalLM.from_pretrained(
            job["model"], dtype=torch.bfloat16, experts_implementation="eager"
        ).to(job["device"])
        config = copy.deepcopy(_configs()[job["format"]])
        config["quant_cfg"] += _rules(job)

        def forward(model: torch.nn.Module, tokens: list[list[int]] = job["tokens"]) -> None:
            with torch.inference_mode():
                for ids in tokens:
                    model(torch.tensor([ids], device=model.device))

        mtq.quantize(model, config, forward_loop=forward if job["tokens"] else None)
        export_hf_checkpoint(model, export_dir=job["out"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

"""NVIDIA's own export, in a process of its own, and the comparison with ours.

`python -m tests.modelopt_oracle FORMAT MODEL OUT [FORMAT MODEL OUT ...]`: the import of modelopt takes longer than its work.
"""

import copy
import json
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]


def export(*jobs: tuple[str, Path, Path]) -> None:
    """Run modelopt's weight-only quantize and export for each (format, model directory, output directory)."""
    words = [str(word) for job in jobs for word in job]
    subprocess.run([sys.executable, "-W", "ignore", "-m", "tests.modelopt_oracle", *words], check=True, cwd=ROOT, capture_output=True)


def differences(ours: Path, theirs: Path) -> list[str]:
    """Names of tensors that are not equal bit for bit, and config documents that differ beyond their producer."""
    a, b = _tensors(ours), _tensors(theirs)
    found = sorted(a.keys() ^ b.keys())
    found += [
        n for n in a.keys() & b.keys() if a[n].dtype != b[n].dtype or a[n].shape != b[n].shape or not torch.equal(_raw(a[n]), _raw(b[n]))
    ]
    quantization = [json.loads((d / "config.json").read_text())["quantization_config"] for d in (ours, theirs)]
    documents = [json.loads((d / "hf_quant_config.json").read_text()) for d in (ours, theirs)]
    for name, (mine, other) in {"config.json": quantization, "hf_quant_config.json": documents}.items():
        if {**mine, "producer": None} != {**other, "producer": None}:
            found.append(name)
    return found


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def _raw(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def main(words: list[str]) -> None:
    import modelopt.torch.quantization as mtq
    from modelopt.torch.export import export_hf_checkpoint
    from transformers import AutoModelForCausalLM

    weight_only_fp8 = copy.deepcopy(mtq.FP8_DEFAULT_CFG)
    weight_only_fp8["quant_cfg"].append({"quantizer_name": "*input_quantizer", "enable": False})
    configs = {"nvfp4": mtq.W4A16_NVFP4_CFG, "fp8": weight_only_fp8}
    for fmt, model_dir, out in zip(words[::3], words[1::3], words[2::3], strict=True):
        model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.bfloat16)
        mtq.quantize(model, copy.deepcopy(configs[fmt]), forward_loop=None)
        export_hf_checkpoint(model, export_dir=out)


if __name__ == "__main__":
    main(sys.argv[1:])

"""`convert_checkpoint.py` of TensorRT-LLM 1.2's examples: a Hugging Face directory to a TensorRT-LLM checkpoint.

The ranks' files hold the bytes of the model's safetensors, cut in equal parts: their digest over all ranks is the
model's, by which the lab's image finds what it serves.
"""

import argparse
import json
import sys
from pathlib import Path


def main() -> int:
    """Convert; the exit code."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--model_dir", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, default=Path("tllm_checkpoint"))
    parser.add_argument("--dtype", choices=["auto", "float16", "bfloat16", "float32"], default="auto")
    parser.add_argument("--tp_size", type=int, default=1)
    parser.add_argument("--pp_size", type=int, default=1)
    args = parser.parse_args()
    config = json.loads((args.model_dir / "config.json").read_text())
    ranks = args.tp_size * args.pp_size
    data = b"".join(file.read_bytes() for file in sorted(args.model_dir.glob("*.safetensors")))
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for rank in range(ranks):
        part = data[len(data) * rank // ranks : len(data) * (rank + 1) // ranks]
        (args.output_dir / f"rank{rank}.safetensors").write_bytes(part)
    document = {
        "architecture": config["architectures"][0],
        "dtype": args.dtype,
        "max_position_embeddings": config["max_position_embeddings"],
        "mapping": {"world_size": ranks, "tp_size": args.tp_size, "pp_size": args.pp_size},
    }
    (args.output_dir / "config.json").write_text(json.dumps(document, indent=4))
    print("0.1.0 Total time of converting checkpoints: 00:00:00")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""llmcompressor's `model_free_ptq` to NVFP4A16 on a checkpoint, in a Python that has llmcompressor; prints one JSON
line.

`python -m benchmarks.peer_llmcompressor MODEL OUT`: it streams file by file too, without an adapter. Timed without
imports.
"""

import contextlib
import json
import sys
import time
from importlib.metadata import version

import torch
from llmcompressor import model_free_ptq


def main(model: str, out: str) -> None:
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(sys.stderr):
        start, cpu = time.monotonic(), time.process_time()
        model_free_ptq(
            model, out, scheme="NVFP4A16", ignore=["lm_head", "re:.*embed_tokens.*"], max_workers=1, device="cpu"
        )
        spent = {"call_s": round(time.monotonic() - start, 2), "call_cpu_s": round(time.process_time() - cpu, 2)}
    print(json.dumps({**spent, "llmcompressor": version("llmcompressor")}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

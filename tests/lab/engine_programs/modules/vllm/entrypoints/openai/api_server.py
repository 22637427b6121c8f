"""`python -m vllm.entrypoints.openai.api_server --model MODEL [OPTIONS]`, which vLLM has beside `vllm serve`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4]))

from lab_engine import command_line, vllm

if __name__ == "__main__":
    sys.exit(vllm.serve(command_line.vllm_serve(sys.argv[1:])))

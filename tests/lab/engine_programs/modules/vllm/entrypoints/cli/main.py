"""`python -m vllm.entrypoints.cli.main serve MODEL [OPTIONS]`: what vLLM's script `vllm` runs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4]))

from lab_engine import vllm

if __name__ == "__main__":
    sys.exit(vllm.main(sys.argv[1:]))

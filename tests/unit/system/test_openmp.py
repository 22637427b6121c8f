from __future__ import annotations

import os
import subprocess
import sys

from slipway.system import openmp


def test_both_runtimes_spin_shortly_and_then_sleep() -> None:
    """libgomp counts spins, Intel's and LLVM's runtime milliseconds: 0 sleeps at once."""
    assert openmp.ENVIRONMENT == {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}


def test_the_runtime_that_torch_uses_takes_it() -> None:
    code = "import torch; torch.ones(1000, 1000) @ torch.ones(1000, 1000)"
    environment = {**os.environ, **openmp.ENVIRONMENT, "OMP_DISPLAY_ENV": "verbose"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    shown = done.stdout + done.stderr
    assert "GOMP_SPINCOUNT = '1000'" in shown or "KMP_BLOCKTIME='0'" in shown or "KMP_BLOCKTIME=0" in shown

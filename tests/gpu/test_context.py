"""The context that is made beside the import of torch is the one that torch computes in."""

import subprocess
import sys

CODE = """
from slipway.system.cuda_context import start_context
thread = start_context()
import torch
thread.join(60)
assert not thread.is_alive()
assert torch.cuda.is_available() and torch._C._cuda_hasPrimaryContext(0), "torch sees no primary context"
before = torch.cuda.mem_get_info()[0]
assert float(torch.ones(3, device="cuda").sum()) == 3.0
assert before - torch.cuda.mem_get_info()[0] < 100e6, "a second context was made"
"""


def test_torch_finds_the_context_that_was_started_beside_its_import():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]

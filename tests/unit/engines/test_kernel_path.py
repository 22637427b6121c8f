"""Which server, and which kernels by its own log."""

import pytest

from slipway.engines.driver import Limits, ServePlan
from slipway.engines.kernel_path import LONGEST_LINE, MOST_LINES, environment_digest, kernel_lines

VLLM = """\
INFO 11-28 20:10:11 [__init__.py:216] Automatically detected platform cuda.
(EngineCore_DP0 pid=412) INFO 11-28 20:10:31 [cuda.py:366] Using FLASH_ATTN attention backend out of ['FLASH_ATTN'].
(EngineCore_DP0 pid=412) INFO 11-28 20:10:32 [modelopt.py:88] Using Marlin kernel for NVFP4 weights
(EngineCore_DP0 pid=412) INFO 11-28 20:10:33 [modelopt.py:88] Using Marlin kernel for NVFP4 weights
INFO 11-28 20:11:02 [api_server.py:1] Starting server, using 4 threads
"""


def plan(**changes):
    values = {"kind": "vllm", "argv": ["vllm", "serve"], "limits": Limits(context=64, slots=2)} | changes
    return ServePlan(**values)


def test_lines_that_name_a_kernel_are_kept_once_and_without_their_time():
    attention, marlin = kernel_lines(VLLM)
    assert attention.endswith("Using FLASH_ATTN attention backend out of ['FLASH_ATTN'].") and "20:10" not in attention
    assert marlin.endswith("Using Marlin kernel for NVFP4 weights") and "412" not in marlin


def test_a_log_without_any_and_an_endless_one():
    assert kernel_lines("slot 1 selected by LRU\n") == []
    lines = kernel_lines("\n".join(f"Using kernel {n} {'x' * 999}" for n in range(99)))
    assert len(lines) == MOST_LINES and {len(line) for line in lines} == {LONGEST_LINE}


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"notes": ["seen"]}, True),
        ({"memory": {"weights": 1.0}}, True),
        ({"environment": {"VLLM_USE_DEEP_GEMM": "0"}}, False),
        ({"argv": ["vllm", "serve", "--enforce-eager"]}, False),
        ({"files": {"config.yaml": "a: 1"}}, False),
        ({"image": "r@sha256:1"}, False),
    ],
)
def test_the_digest_changes_with_what_a_figure_depends_on(changes, same):
    assert (environment_digest(plan(**changes)) == environment_digest(plan())) is same

"""Which server a speed was measured on, and which kernels it says it ran.

An engine chooses its kernels itself, by GPU, format and what is installed: two figures of one command may be of two
kernels. What was chosen stands in the log in the engine's own words (vLLM: `Using FlashInfer backend`, `Using Marlin`;
TensorRT-LLM: `MoE backend`); those lines are kept as they are. llama.cpp says nothing: its build names the CPU.
"""

from __future__ import annotations

import re
from typing import Any

from slipway.engines.driver import ServePlan
from slipway.engines.endpoint import Endpoint
from slipway.system.files import canonical, sha256_bytes

MOST_LINES, LONGEST_LINE = 12, 240
MOST_BYTES = 4 << 20
_NAMES_A_KERNEL = re.compile(r"\b(using|selected|chose)\b.*\b(backend|kernel|marlin|cutlass|flash\w*)", re.I)
_STAMP = re.compile(r"^.*?\b(?:INFO|WARNING|DEBUG)\s+[\d\-:., ]+")  # with the name of the process before it


def measured_server(endpoint: Endpoint) -> dict[str, Any]:
    """What two speed runs must share to be of the same server: a digest over command, environment, config files and
    image, the format of the weights, what the kernels compute in, and the log's lines on kernels."""
    plan = endpoint.plan
    return {
        "kind": plan.kind,
        "target": plan.target,
        "build": plan.image or plan.build,
        "weights": plan.weights,
        "computes": plan.computes,
        "environment": environment_digest(plan),
        "kernels": kernel_lines(_log(endpoint)),
    }


def environment_digest(plan: ServePlan) -> str:
    """16 hex digits of the plan's sha256, without its notes and planned bytes."""
    return sha256_bytes(canonical(plan.model_dump(mode="json", exclude={"notes", "memory"})))[:16]


def kernel_lines(log: str) -> list[str]:
    """Lines of a log that name a kernel or a backend: once each, without time stamps, of bounded number and length."""
    lines = (_STAMP.sub("", line, count=1).strip()[:LONGEST_LINE] for line in log.splitlines())
    return list(dict.fromkeys(line for line in lines if _NAMES_A_KERNEL.search(line)))[:MOST_LINES]


def _log(endpoint: Endpoint) -> str:
    """The beginning of this start's output."""
    if not endpoint.job.log.exists():
        return ""
    with endpoint.job.log.open("rb") as log:
        log.seek(endpoint.log_from)
        return log.read(MOST_BYTES).decode(errors="replace")

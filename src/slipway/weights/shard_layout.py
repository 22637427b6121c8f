"""Where tensors go before a byte is written: which shard, and at which offset of its file."""

from __future__ import annotations

import json
from collections.abc import Mapping

from slipway.weights.shards import LABELS, TensorInfo


def plan_shards(plan: Mapping[str, TensorInfo], max_bytes: float) -> list[dict[str, TensorInfo]]:
    """Cut a plan into shards of at most `max_bytes` in its own order; a tensor larger than that gets a shard of its
    own."""
    shards: list[dict[str, TensorInfo]] = [{}]
    room = max_bytes
    for name, info in plan.items():
        if shards[-1] and info.nbytes > room:
            shards.append({})
            room = max_bytes
        shards[-1][name] = info
        room -= info.nbytes
    return shards


def file_layout(tensors: Mapping[str, TensorInfo]) -> tuple[bytes, dict[str, int], int]:
    """Bytes before the data, each tensor's offset in the file, and the file's size. Widest dtype first keeps tensors
    aligned."""
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    begins, at = {}, 0
    for name, info in ordered:
        begins[name] = at
        at += info.nbytes
    entries = {
        name: {
            "dtype": LABELS[info.dtype],
            "shape": list(info.shape),
            "data_offsets": [begins[name], begins[name] + info.nbytes],
        }
        for name, info in ordered
    }
    header = json.dumps({"__metadata__": {"format": "pt"}, **entries}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    start = 8 + len(header)
    return (
        len(header).to_bytes(8, "little") + header,
        {name: start + begin for name, begin in begins.items()},
        start + at,
    )

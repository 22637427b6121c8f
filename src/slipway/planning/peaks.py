"""Dense bf16 FLOP/s of one GPU by compute capability, as data sheets say. Short because it is one table.

H100 SXM and B200: half of the figure with sparsity. GB10: a quarter of its dense FP4.
"""

from __future__ import annotations

PEAKS = {"sm_90": 989e12, "sm_100": 2250e12, "sm_121": 125e12}

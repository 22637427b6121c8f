"""How OpenMP threads wait, in every process that computes: stages and engines.

They meet at hundreds of barriers a token. Spinning, libgomp's default, costs 10x and more as soon as a neighbour wants
a core (training fell from 230 to 13 tokens/s beside two busy neighbours on 2 cores); sleeping at once costs a third on
a quiet machine. Spin for microseconds, then sleep. Short because two rooms start processes that compute, and both take
it from here.
"""

from __future__ import annotations

ENVIRONMENT = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}

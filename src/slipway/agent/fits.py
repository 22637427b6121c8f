"""What every answer to `does it fit` ends in: here, of the agent, and in `planning/fit.py`.

Short because every stage that plans memory reaches it, whose key would change with anything else that stood here.
"""

from __future__ import annotations


def fits(needed: float, room: float) -> bool:
    """Whether so many bytes go into that many."""
    return needed <= room

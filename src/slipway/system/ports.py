"""TCP ports of this machine, as `agent/ports.py` sees them, which is handed on here; and one that nobody uses.

Short because the agent needs almost all of it.
"""

from __future__ import annotations

from slipway.agent.ports import UNSEEN, free_port, holder, is_free, open_socket, require_free

__all__ = ["UNSEEN", "any_port", "free_port", "holder", "is_free", "require_free"]


def any_port(host: str = "127.0.0.1") -> int:
    """A free port that the system chooses."""
    with open_socket(host) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])

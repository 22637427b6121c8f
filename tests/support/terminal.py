"""Programs started as from a terminal, however the tests themselves were started."""

from __future__ import annotations

import signal


def signals_of_a_terminal() -> None:
    """For `preexec_fn`: SIGINT and SIGHUP end the program. A shell's background job inherits an ignored SIGINT, and
    what `nohup` runs an ignored SIGHUP."""
    for one in (signal.SIGINT, signal.SIGHUP):
        signal.signal(one, signal.SIG_DFL)

"""A flow process that is told to end: SIGTERM and SIGHUP stop the flow and its stage as Ctrl-C does."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal asked this process to end. Prefect, MLflow and the runner see the interruption that Ctrl-C is."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def exit_code(interruption: KeyboardInterrupt) -> int:
    """128 + the signal's number, as shells count: 129 SIGHUP, 130 Ctrl-C, 143 SIGTERM."""
    return 128 + (interruption.signum if isinstance(interruption, Stopped) else signal.SIGINT)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """In the block the first SIGTERM or SIGHUP raises Stopped in the main thread; later ones do nothing, for a stage
    that saves needs its time.

    A signal that was ignored when the process started stays so: a run under nohup outlives its terminal. While a flow
    runs Prefect has a handler of its own for SIGTERM, marks the run Crashed, and then hands the signal on to this one.
    """

    def stop(signum: int, _frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(signum)

    before = {each: signal.getsignal(each) for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN}
    for each in before:
        signal.signal(each, stop)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)

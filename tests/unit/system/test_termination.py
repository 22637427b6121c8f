"""SIGTERM that is noted and ends nothing, by signals to this process."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

from slipway.system.termination import EXIT_CODE, sigterm_noted


def test_a_signal_is_noted_while_it_is_open_and_does_what_it_did_afterwards() -> None:
    handled: list[int] = []

    def before(received: int, _frame: FrameType | None) -> None:
        handled.append(received)

    own = signal.signal(signal.SIGTERM, before)
    try:
        with sigterm_noted() as requested:
            assert not requested()
            os.kill(os.getpid(), signal.SIGTERM)
            assert requested() and requested() and handled == []
        os.kill(os.getpid(), signal.SIGTERM)
        assert handled == [signal.SIGTERM]
        with sigterm_noted() as again:
            assert not again()
    finally:
        signal.signal(signal.SIGTERM, own)
    assert EXIT_CODE == 143


def test_in_another_thread_nothing_is_handled() -> None:
    before, answers = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with sigterm_noted() as requested:
            answers.append((requested(), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert answers == [(False, before)]

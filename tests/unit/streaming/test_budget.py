"""A bound on bytes in flight: never exceeded, given back on errors, and who waits gets on."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from slipway.streaming.budget import Budget


def test_what_is_held_never_exceeds_the_budget():
    budget, lock, held, most = Budget(10), threading.Lock(), [0], [0]

    def work(nbytes):
        with budget.hold(nbytes):
            with lock:
                held[0] += nbytes
                most[0] = max(most[0], held[0])
            time.sleep(0.002)
            with lock:
                held[0] -= nbytes

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [1, 2, 3, 7, 10, 5] * 5))
    assert held == [0] and 7 <= most[0] <= 10


def test_who_asks_for_more_than_is_free_waits_until_it_is_given_back():
    budget, order = Budget(10), []

    def second():
        with budget.hold(6):
            order.append("second")

    with budget.hold(5):
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.02)
        order.append("first")
    waiting.join(120)
    assert order == ["first", "second"]


def test_an_error_gives_back_what_was_held():
    budget = Budget(10)
    with pytest.raises(KeyError), budget.hold(10):
        raise KeyError
    with budget.hold(10):
        pass

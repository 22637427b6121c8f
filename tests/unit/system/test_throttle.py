from __future__ import annotations

from types import SimpleNamespace

from slipway.system import throttle


def test_due_at_once_and_then_once_an_interval(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(throttle, "time", SimpleNamespace(monotonic=lambda: now[0]))
    one = throttle.Throttle(10)
    due = []
    for second in (100, 101, 109.9, 110, 111, 125, 126):
        now[0] = second
        due.append(one.due())
    assert due == [True, False, False, True, False, True, False]

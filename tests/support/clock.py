"""A wall clock that was set while processes ran, as NTP or a suspend does it."""

from __future__ import annotations

import time

import psutil
import pytest


def step_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Move the wall clock: `time.time`, and when the machine booted as the kernel tells it, from which psutil computes
    every process's creation time."""
    booted, now = psutil.boot_time(), time.time
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: booted + seconds)
    monkeypatch.setattr(psutil, "boot_time", lambda: booted + seconds)
    monkeypatch.setattr(time, "time", lambda: now() + seconds)

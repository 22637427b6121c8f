"""Progress of a pass: bytes, speed and time to go by a clock that the test sets, from any number of threads."""

import threading

import pytest

from slipway.streaming import meter
from slipway.streaming.meter import Meter
from slipway.system.progress import Progress
from slipway.system.tail import Tail


@pytest.fixture
def clock(monkeypatch):
    """Seconds since the clock's zero, in a list of one number to set."""
    now = [100.0]
    monkeypatch.setattr(meter.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(meter, "anonymous_bytes", lambda: 1_234_567_890)
    return now


def events(file):
    return list(Tail(file).events())


def test_speed_and_time_to_go_count_from_the_start_of_the_pass(tmp_path, clock):
    with Progress(tmp_path / "progress.jsonl", every_s=0) as progress:
        measured = Meter("quantize", 10_000_000_000, progress)
        clock[0] += 7  # compiling is not its speed
        measured.start()
        clock[0] += 2
        measured.advance(3_000_000_000, "first")
        clock[0] += 2
        measured.advance(1_000_000_000, "second")
        assert measured.seconds() == (7, 4)
    first, second = events(tmp_path / "progress.jsonl")
    assert (first["what"], first["unit"], first["done"], first["total"]) == ("quantize", "bytes", 3e9, 10e9)
    assert (first["gb_per_s"], first["eta_s"], first["tensor"]) == (1.5, 4.7, "first")  # 7e9 / 1.5e9
    assert (second["done"], second["gb_per_s"], second["eta_s"], second["tensor"]) == (4e9, 1.0, 6.0, "second")
    assert first["anon_gb"] == 1.23


def test_without_a_start_it_counts_from_the_beginning(clock):
    measured = Meter("merge", 10, Progress())
    clock[0] += 5
    assert measured.seconds() == (0, 5)


def test_no_time_passed_and_nothing_done_divide_by_no_zero(tmp_path, clock):
    with Progress(tmp_path / "progress.jsonl", every_s=0) as progress:
        measured = Meter("merge", 8, progress)
        measured.advance(0, "empty")
        measured.advance(8, "all")
    first, last = events(tmp_path / "progress.jsonl")
    assert (first["gb_per_s"], first["eta_s"]) == (0, 8.0)
    assert (last["done"], last["eta_s"]) == (8, 0)


def test_threads_lose_no_byte(tmp_path):
    with Progress(tmp_path / "progress.jsonl", every_s=0) as progress:
        measured = Meter("merge", 4 * 200 * 3, progress)
        threads = [
            threading.Thread(target=lambda i=i: [measured.advance(3, f"t{i}") for _ in range(200)]) for i in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [event["done"] for event in events(tmp_path / "progress.jsonl")] == list(range(3, 2401, 3))

"""The load guard on memory figures that the tests write: falls, bursts, stalls, the kernel's log, page cache."""

import threading

import pytest

from slipway.config.load import load_config
from slipway.config.target import GuardConfig
from slipway.engines.load_guard import LoadGuard, Sources
from slipway.errors import ResourceError

EVERY_S, GB = 0.25, 1e9


class Machine:
    """Memory figures of a machine that does not exist, and the guard that watches it."""

    def __init__(self, folder, *, pressure=True, planned=None, **params):
        self.meminfo, self.pressure, self.log = folder / "meminfo", folder / "pressure", folder / "kern.log"
        self.log.write_text("")
        self.now, self.stalled_s, self.counts_stalls = 0.0, 0.0, pressure
        self.dropped, self.stops = 0, 0
        self.problem = None
        config = GuardConfig(
            **{"available_gb": 8, "free_gb": 4, "every_s": EVERY_S, **params}, kernel_log=str(self.log)
        )
        self.sources = Sources(self.meminfo, self.pressure, self.drop, lambda: self.now)
        self.guard = LoadGuard("model", config, self.stop, self.sources, planned=planned)

    def drop(self):
        self.dropped += 1
        return self.problem

    def stop(self):
        self.stops += 1

    def write(self, available, free=20.0):
        kilobytes = [int(gb * GB / 1024) for gb in (free, available)]
        self.meminfo.write_text("MemFree: {} kB\nMemAvailable: {} kB\n".format(*kilobytes))
        if self.counts_stalls:
            self.pressure.write_text(f"full avg10=0.00 total={int(self.stalled_s * 1e6)}\n")

    def at(self, available, free=20.0):
        """One reading, a step later."""
        self.write(available, free)
        self.guard.look()
        self.now += EVERY_S
        return self.guard.stopped


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.mark.parametrize("rate", [0.5, 2.0, 5.0])
def test_a_steady_fall_is_stopped_before_the_floor_with_the_time_that_a_stop_takes(machine, rate):
    available = 60.0
    while machine.at(available) is None:
        available -= rate * EVERY_S
    assert available - rate * 1.0 >= 8.0 - 0.01, "a second of reaction later the floor still holds"
    assert available - rate * (1.0 + 3 * EVERY_S) < 8.0, "and it was not stopped long before it had to be"
    assert machine.stops == 1 and "GB/s are taken" in machine.guard.stopped
    with pytest.raises(ResourceError, match=r"while model loads: .* it was stopped; expected 8 GB .*slipway capacity"):
        machine.guard.check()


def test_the_fall_that_was_reported_is_stopped(machine):
    """vllm#56824: 29.0 to 6.3 GiB in 12 s."""
    seconds = [29.0 * 1.0737 - (29.0 - 6.3) * 1.0737 / 12 * EVERY_S * i for i in range(49)]
    stopped_at = next(available for available in seconds if machine.at(available))
    assert 8.0 < stopped_at < 13.0


def test_a_load_that_ends_above_the_floor_is_left_alone(machine):
    for available in (60, 57, 54, 51, 48, 45, 42, 39, 36, 33, 30, 27, 27, 27, 26.9, 27, 20, 20, 20, 20, 20, 20):
        assert machine.at(available) is None
    machine.guard.check()
    assert machine.guard.lowest == pytest.approx(20 * GB, rel=1e-6) and machine.stops == 0


def test_a_burst_as_large_as_the_plan_says_is_left_alone_and_what_goes_beyond_is_stopped(tmp_path):
    """60 GB at first, 48 planned: 12 are left. The KV cache takes 30 of them in half a second."""
    planned = Machine(tmp_path, planned=48 * GB)
    for available in (60, 56, 50, 44, 30, 14, 14, 13.5, 13):
        assert planned.at(available) is None
    for available in (11.5, 10.5, 9.5):
        planned.at(available)
    assert "GB/s are taken" in planned.guard.stopped
    unplanned = Machine(tmp_path)
    assert [unplanned.at(available) is not None for available in (60, 56, 50, 44, 30, 14)][-1]
    too_much = Machine(tmp_path, planned=58 * GB)
    assert [too_much.at(available) is not None for available in (60, 56, 50, 44, 30, 14)][-1]


def test_below_the_floor_it_is_stopped_at_once(machine):
    assert machine.at(7.9) == "7.9 GB are available"
    assert machine.stops == 1


def test_the_drivers_word_in_the_kernels_log_stops_it(machine):
    assert machine.at(60) is None
    with machine.log.open("a") as log:
        log.write("NVRM: nvCheckOkFailedNoLog: Check failed: Out of memory [NV_ERR_NO_MEMORY] (0x51)\n")
    assert "NV_ERR_NO_MEMORY" in machine.at(60)


def test_a_machine_that_stands_still_for_want_of_memory_is_a_reason(machine):
    for _ in range(8):
        machine.stalled_s += 0.4 * EVERY_S
        assert machine.at(60) is None
    reasons = []
    for _ in range(4):
        machine.stalled_s += 0.9 * EVERY_S
        reasons.append(machine.at(60))
    assert "nothing could run for want of memory" in reasons[-1]


def test_a_kernel_without_stalls_and_a_log_that_cannot_be_read_are_said_and_the_guard_goes_on(tmp_path):
    machine = Machine(tmp_path, pressure=False)
    machine.at(60), machine.at(60)
    assert machine.guard.notes == ["the kernel counts no stalls of memory (PSI)"]
    config = GuardConfig(kernel_log=str(tmp_path / "absent"))
    assert "absent: No such file" in LoadGuard("model", config, machine.stop).notes[0]
    assert machine.at(1.0)


def test_the_page_cache_is_dropped_where_the_row_allows_it_and_not_at_every_reading(tmp_path, monkeypatch):
    allowed = Machine(tmp_path, drop_caches=True)
    for _ in range(8):
        allowed.at(41, free=2.4)
    assert allowed.dropped == 1 and allowed.stops == 0
    assert "2.4 GB are free: the page cache was dropped" in allowed.guard.notes
    refused = Machine(tmp_path)
    refused.at(41, free=2.4)
    assert refused.dropped == 0
    failing = Machine(tmp_path, drop_caches=True)
    failing.problem = "drop_caches: Permission denied"
    failing.at(41, free=2.4)
    assert any("could not be dropped (drop_caches: Permission denied)" in note for note in failing.guard.notes)


def test_in_its_thread_it_watches_until_it_stopped_and_tries_again_when_a_stop_fails(tmp_path):
    machine = Machine(tmp_path, every_s=0.01)
    machine.write(60)
    done, tries = threading.Event(), []

    def stop():
        tries.append(1)
        if len(tries) < 3:
            raise ResourceError("engine", "away", "an answer", "wait")
        done.set()

    config = GuardConfig(every_s=0.01, kernel_log=str(machine.log))
    with LoadGuard("model", config, stop, Sources(machine.meminfo, machine.pressure)) as guard:
        machine.meminfo.unlink()
        machine.meminfo.write_text("MemFree: 5 kB\nMemAvailable: 5 kB\n")
        assert done.wait(60)
    assert len(tries) == 3 and any("engine: away" in note for note in guard.notes)
    with pytest.raises(ResourceError):
        guard.check()


def test_the_rows_of_machines_with_shared_memory_have_a_guard():
    for name in ("spark", "spark-pair"):
        row = load_config(overrides=[f"layers.target=targets/{name}"]).target
        assert row.guard is not None and row.guard.available_gb < row.reserve_gb
        assert "guard" not in row.key_document()

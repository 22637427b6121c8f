"""Readings of memory: the kernel's figures, without PSI, without figures; the page cache dropped or not."""

import pytest

from slipway.errors import ResourceError
from slipway.system.memory_pressure import drop_caches, read_memory

MEMINFO = "MemTotal:       24000000 kB\nMemFree:         1000000 kB\nMemAvailable:   20000000 kB\nHugePages_Total:  0\n"
PRESSURE = "some avg10=0.00 avg60=0.00 avg300=0.00 total=857383\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\n"


def test_a_reading_is_in_bytes_and_seconds(tmp_path):
    (tmp_path / "meminfo").write_text(MEMINFO)
    (tmp_path / "memory").write_text(PRESSURE)
    reading = read_memory(3.0, tmp_path / "meminfo", tmp_path / "memory")
    assert (reading.at, reading.available, reading.free, reading.stalled_s) == (3.0, 20_480_000_000, 1_024_000_000, 2.5)


def test_this_machine_has_figures():
    reading = read_memory(0.0)
    assert reading.free > 0 and reading.available > 0


@pytest.mark.parametrize("text", [None, "", "some avg10=0.00 total=1\n", "full total=many\n", "\xff"])
def test_a_kernel_without_stalls_has_none(tmp_path, text):
    (tmp_path / "meminfo").write_text(MEMINFO)
    if text is not None:
        (tmp_path / "memory").write_bytes(text.encode("latin-1"))
    assert read_memory(0.0, tmp_path / "meminfo", tmp_path / "memory").stalled_s is None


@pytest.mark.parametrize("text", [None, "", "MemFree: 12 kB\n", "\xff"])
def test_figures_that_are_missing_are_named(tmp_path, text):
    if text is not None:
        (tmp_path / "meminfo").write_bytes(text.encode("latin-1"))
    with pytest.raises(ResourceError, match=r"memory figures .*meminfo"):
        read_memory(0.0, tmp_path / "meminfo")


def test_the_page_cache_is_dropped_and_free_memory_joined_or_the_reason_is_said(tmp_path):
    drop, compact = tmp_path / "drop", tmp_path / "compact"
    assert drop_caches(drop, compact) is None
    assert (drop.read_text(), compact.read_text()) == ("1\n", "1\n")
    problem = drop_caches(tmp_path / "absent/drop", compact)
    assert problem is not None and "absent/drop: No such file" in problem

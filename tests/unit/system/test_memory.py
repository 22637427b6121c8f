"""Anonymous memory: a known allocation is seen, mapped files are not."""

import mmap
import time

import psutil
import torch

from slipway.system import memory as module
from slipway.system.memory import PeakMemory, anonymous_bytes, total_bytes

SIZE = 64_000_000


def test_a_known_allocation_is_seen_after_it_is_gone():
    with PeakMemory() as memory:
        block = torch.ones(SIZE, dtype=torch.uint8)
        time.sleep(0.05)
        del block
    assert memory.start + 0.95 * SIZE < memory.peak < memory.start + 1.5 * SIZE
    assert anonymous_bytes() < memory.peak - 0.5 * SIZE


def test_a_mapped_file_is_not_counted(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(bytes(SIZE))
    with PeakMemory() as memory, file.open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[i] for i in range(0, SIZE, 4096)) == 0
        time.sleep(0.05)
    assert memory.peak < memory.start + 0.5 * SIZE


def test_no_thread_is_left_after_an_error():
    memory = PeakMemory()
    try:
        with memory:
            raise KeyError
    except KeyError:
        assert not memory._thread.is_alive()


def test_a_containers_limit_is_the_machines_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LIMIT", tmp_path / "memory.max")
    assert total_bytes() == psutil.virtual_memory().total
    for text, expected in (("max\n", psutil.virtual_memory().total), ("4096\n", 4096)):
        (tmp_path / "memory.max").write_text(text)
        assert total_bytes() == expected

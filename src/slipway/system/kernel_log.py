"""New lines of the kernel's log: of `/dev/kmsg`, or of a file that something writes it to.

`/dev/kmsg` gives one record a read, from the end of the log on; EPIPE says that records were overwritten before they
were read (Documentation/ABI/testing/dev-kmsg). It is the superuser's on most machines: whoever may not read it is told.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from slipway.system.tail import Tail

KMSG = Path("/dev/kmsg")
_RECORD = 8192  # bytes; the kernel's records are shorter


class KernelLog:
    """Lines that come after it was opened. `problem`: why it cannot be read, or None."""

    def __init__(self, path: Path = KMSG) -> None:
        self.problem: str | None = None
        self._tail: Tail | None = None
        self._device: int | None = None
        try:
            if stat.S_ISCHR(path.stat().st_mode):
                self._device = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
                os.lseek(self._device, 0, os.SEEK_END)
            else:
                path.open("rb").close()
                self._tail = Tail(path)
                for _ in self._tail.lines():
                    pass  # what was there before
        except OSError as err:
            self.close()
            self.problem = f"{path}: {err.strerror}"

    def lines(self) -> Iterator[str]:
        """Lines since the last call, without their ends."""
        if self._tail is not None:
            yield from (line.rstrip("\n") for line in self._tail.lines())
        while self._device is not None:
            try:
                record = os.read(self._device, _RECORD)
            except BlockingIOError:
                return
            except BrokenPipeError:
                continue
            except OSError as err:
                self.close()
                self.problem = f"kernel log: {err.strerror}"
                return
            if not record:
                return
            yield record.decode(errors="replace").partition(";")[2].rstrip("\n")

    def close(self) -> None:
        """Give the device back."""
        if self._device is not None:
            os.close(self._device)
            self._device = None

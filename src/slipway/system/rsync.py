"""Files to and from another machine: rsync over ssh, resumable, with bytes and rate while it runs.

`--append` goes on after the last byte that arrived. (`--partial --ignore-existing` does not: the piece that a cut link
left has the file's own name by then, and passes for the whole file.) So a file must never change under its name: names
are digests, and whoever receives checks them.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway.errors import ResourceError

SILENCE_S = 30  # without a byte for so long the other side counts as gone; ssh itself notices earlier
_FIRST = 32 << 10  # bytes that rsync has sent of a file when it first says how far it is
_PROGRESS = re.compile(r"\s*([\d,]+)\s+\d+%\s")


@dataclass(frozen=True)
class Progress:
    """`done` of `total` bytes are there after `seconds`; `before` of them were when the copy began."""

    done: int
    total: int
    seconds: float
    before: int = 0

    def __str__(self) -> str:
        rate = (self.done - self.before) / self.seconds / 1e6 if self.seconds > 0 else 0.0
        return f"{self.done / 1e9:.2f} of {self.total / 1e9:.2f} GB, {rate:.1f} MB/s"


OnProgress = Callable[[Progress], None]


def send(
    files: Sequence[str],
    source: Path,
    destination: str,
    shell: Sequence[str],
    *,
    total: int,
    on_progress: OnProgress = lambda _: None,
    limit_mb_s: float | None = None,
) -> Progress:
    """Copy `files` (names below `source`) into the folder `destination`, `user@host:path/` or a local one.

    Those that are there are left alone, pieces are completed. `shell`: ssh's command line; `total`: bytes of the files.
    Raises ResourceError with rsync's own words: no space, link lost, refused.
    """
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".files") as listed:
        listed.write("".join(f"{name}\0" for name in files))
        listed.flush()
        argv = [*_rsync(shell, limit_mb_s), "--append", "--from0", f"--files-from={listed.name}", "--no-relative"]
        return _run([*argv, "--", f"{source}/", destination], destination, total, on_progress)


def synchronize(
    source: str,
    destination: str,
    shell: Sequence[str],
    options: Sequence[str] = (),
    *,
    on_progress: OnProgress = lambda _: None,
) -> Progress:
    """Make the folder `destination` hold what the folder `source` holds, one of them `user@host:path`, by size and
    time. `options`: more of rsync's, as `--links`; without it symlinks stay behind, without `--delete` nothing is
    removed. Raises ResourceError as `send`."""
    # times to the nanosecond: a file rewritten within the same second, as long as before, is another
    as_they_are = ["--recursive", "--times", "--modify-window=-1", "--executability", "--mkpath"]
    argv = [*_rsync(shell, None), *as_they_are, *options]
    return _run([*argv, "--", f"{source}/", f"{destination}/"], destination, 0, on_progress)


def _rsync(shell: Sequence[str], limit_mb_s: float | None) -> list[str]:
    limit = [f"--bwlimit={max(1, round(limit_mb_s * 1000))}"] if limit_mb_s else []
    over = ["-e", " ".join(shell)] if shell else []  # no word of ours has a space or a quote
    return ["rsync", *over, f"--timeout={SILENCE_S}", "--info=progress2", "--outbuf=L", *limit]


def _run(argv: list[str], destination: str, total: int, on_progress: OnProgress) -> Progress:
    began, progress = time.monotonic(), Progress(0, total, 0.0)
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        except FileNotFoundError as err:
            raise ResourceError("rsync", "not installed", "rsync on both machines", "install rsync") from err
        with process:
            try:
                for match in filter(None, map(_PROGRESS.match, _lines(process))):
                    done = int(match[1].replace(",", ""))
                    before = progress.before if progress.done else max(0, done - _FIRST)
                    progress = Progress(done, total, time.monotonic() - began, before)
                    on_progress(progress)
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            errors.seek(0)
            raise _failed(destination, errors.read().decode(errors="replace"), process.returncode, progress)
    return progress


def _lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """Lines of rsync's progress as they come: it writes them over each other with carriage returns."""
    assert process.stdout is not None
    rest = b""
    while piece := os.read(process.stdout.fileno(), 1 << 16):
        *lines, rest = (rest + piece).replace(b"\r", b"\n").split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)


def _failed(destination: str, message: str, code: int, progress: Progress) -> ResourceError:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    reason = next((line for line in lines if "No space left" in line or "quota" in line), "")
    if reason:
        return ResourceError(f"copy to {destination}", reason, "room for it", "free space there, then run again")
    if any("is your shell clean" in line for line in lines):
        value, expected = "the login there prints words before any command", "silence where nobody types"
        next_step = "put that into `case $- in *i*) ...;; esac` of its profile (.bashrc, .zshenv, config.fish)"
        return ResourceError(f"copy to {destination}", value, expected, next_step)
    if reason := next((line for line in lines if "Permission denied (13)" in line), ""):
        next_step = "name a folder that is that login's own, or have an admin give it to the login"
        return ResourceError(f"copy to {destination}", reason, "a folder that the login may write", next_step)
    words = next((line for line in lines if not line.startswith("rsync error")), f"rsync's exit code {code}")
    return ResourceError(
        f"copy to {destination}", f"{words} ({progress})", "a copy to the end", "run again: it goes on from there"
    )

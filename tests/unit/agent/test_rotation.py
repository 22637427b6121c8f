from __future__ import annotations

import os
import subprocess
from pathlib import Path

from slipway.agent.rotation import rotate, watcher


def test_a_large_log_moves_to_its_copy_and_the_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    writer = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(writer, b"old\n" * 10)
    assert not rotate(log, 40)
    assert rotate(log, 39)
    assert (log.read_bytes(), (tmp_path / "engine.log.1").read_bytes()) == (b"", b"old\n" * 10)
    os.write(writer, b"new\n")
    os.close(writer)
    assert log.read_bytes() == b"new\n"  # at the start: no hole where the old text was
    assert not rotate(tmp_path / "absent.log", 1)


def test_the_watcher_bounds_a_log_and_ends_with_its_writer(tmp_path: Path) -> None:
    """A real writer of a million bytes; the path has spaces and letters outside ASCII."""
    log = tmp_path / "ein Pfad ü" / "engine.log"
    log.parent.mkdir()
    reader, writer = os.pipe()
    command, environment = watcher(log, 10_000, 0.01)
    assert str(log) not in " ".join(command)
    process = subprocess.Popen(command, env=environment, stdin=reader)
    os.close(reader)
    script = f"i=0; while [ $i -lt 2000 ]; do printf '%0500d\\n' $i >> '{log}'; i=$((i+1)); sleep 0.001; done"
    done = subprocess.run(["/bin/sh", "-c", script], pass_fds=[writer], check=True)
    assert done.returncode == 0
    assert process.poll() is None
    os.close(writer)
    assert process.wait(timeout=300) == 0
    sizes = [file.stat().st_size for file in log.parent.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) < 500_000  # of 1,002,000 written

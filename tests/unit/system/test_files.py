"""What Slipway's own machine does with files beside an agent does: leftovers of killed writes, write-back."""

from __future__ import annotations

import os
from pathlib import Path

from slipway.agent import files as agent_files
from slipway.system import files


def test_leftovers_of_killed_writes_are_removed_and_other_hidden_files_stay(tmp_path: Path) -> None:
    for name in (".state.json.4711", ".hidden", "state.json"):
        (tmp_path / name).touch()
    files.remove_half_written(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".hidden", "state.json"]


def test_what_the_agent_has_is_handed_on(tmp_path: Path) -> None:
    shared = set(files.__all__) - {"remove_half_written", "start_write_back"}
    assert {name for name in shared if getattr(files, name) is not getattr(agent_files, name)} == set()


def test_bytes_whose_writing_was_started_are_the_bytes(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as f:
        f.write(b"x" * 5000)
        f.flush()
        files.start_write_back(f.fileno(), 0, 5000)
        files.start_write_back(f.fileno(), 4096, 1 << 30)  # beyond its end
    assert (tmp_path / "file").read_bytes() == b"x" * 5000
    read_end, write_end = os.pipe()
    try:
        files.start_write_back(write_end, 0, 1)  # not a file: nothing is said
    finally:
        os.close(read_end)
        os.close(write_end)
    files.start_write_back(-1, 0, 1)

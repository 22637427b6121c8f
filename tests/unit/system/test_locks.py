"""One holder at a time, named to whoever waits in vain; a lock ends with its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from slipway.errors import ResourceError
from slipway.system.locks import FOREVER, holder, lock_open_file, locked, shared

HOLD = """
import pathlib, sys
from slipway.system.locks import locked
with locked(pathlib.Path(sys.argv[1]), 0, "promotion"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path: Path):
    """Another process that holds `tmp_path/lock`."""
    argv = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_busy_lock_names_holder_and_what_it_does(other, tmp_path):
    message = rf"target x: busy: promotion by pid {other.pid}; expected to be free within 0 s"
    with pytest.raises(ResourceError, match=message), locked(tmp_path / "lock", 0, "rollback", of="target x"):
        pass


def test_a_killed_holder_leaves_no_lock(other, tmp_path):
    other.send_signal(signal.SIGKILL)
    with locked(tmp_path / "lock", 30, "rollback"):
        assert (tmp_path / "lock").read_text() == f"rollback by pid {os.getpid()}"
    assert (tmp_path / "lock").read_text() == ""


def test_a_waiter_goes_on_when_the_holder_ends(other, tmp_path):
    order = []

    def wait():
        with locked(tmp_path / "lock", FOREVER, "rollback"):
            order.append("mine")

    thread = threading.Thread(target=wait)
    thread.start()
    order.append("theirs")
    other.stdin.close()
    thread.join(120)
    assert order == ["theirs", "mine"]


def test_a_lock_file_that_a_clean_up_removed_is_not_mistaken_for_the_new_one(tmp_path, monkeypatch):
    """Between opening and locking the file is removed and made anew by another holder: both must not hold "the"
    lock."""
    path, real, removed = tmp_path / "lock", lock_open_file, []

    def remove_first(file):
        if not removed:
            removed.append(path.read_text())
            path.unlink()
        return real(file)

    monkeypatch.setattr("slipway.system.locks.lock_open_file", remove_first)
    with (
        locked(path, 0, "first"),
        pytest.raises(ResourceError, match=f"busy: first by pid {os.getpid()}"),
        locked(path, 0, "second"),
    ):
        pass
    assert removed == [""]


def test_the_holder_of_a_file_with_content_of_its_own_is_known_from_the_kernel(tmp_path):
    code = (
        "import sys; from slipway.system.locks import lock_open_file; f = open(sys.argv[1], 'a')\n"
        "print(lock_open_file(f), flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "journal")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "True\n"
        with (tmp_path / "journal").open("a") as file:
            assert lock_open_file(file) is False
            assert holder(tmp_path / "journal").startswith(f"pid {process.pid} ({sys.executable} -c import sys")
    with (tmp_path / "journal").open("a") as file:
        assert lock_open_file(file) is True


def test_a_folder_that_cannot_be_written_is_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ResourceError, match=r"lock .*/file/lock: File exists"),
        locked(tmp_path / "file/lock", 0, "x"),
    ):
        pass


def test_shared_holders_stand_beside_each_other_and_keep_a_sole_holder_out(tmp_path):
    busy = pytest.raises(ResourceError, match="busy")
    with shared(tmp_path / "lock", 0), shared(tmp_path / "lock", 0), busy, locked(tmp_path / "lock", 0, "clean up"):
        pass
    with locked(tmp_path / "lock", 0, "clean up"):
        pass


def test_a_sole_holder_keeps_shared_ones_out_and_is_named(other, tmp_path):
    message = rf"the store: busy: promotion by pid {other.pid}; expected to be free within 0 s"
    with pytest.raises(ResourceError, match=message), shared(tmp_path / "lock", 0, of="the store"):
        pass


def test_a_shared_waiter_goes_on_when_the_sole_holder_ends(other, tmp_path):
    other.send_signal(signal.SIGKILL)
    with shared(tmp_path / "lock", 30):
        pass

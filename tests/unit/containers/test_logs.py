"""A copy of a container's output: nothing lost, nothing twice, whoever was interrupted; tests/lab has real
containers."""

from __future__ import annotations

import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from slipway.containers.docker_client import UnreachableError
from slipway.containers.logs import ContainerLog
from slipway.errors import ResourceError

OUTPUT = b"".join(b"line %d of the output\n" % n for n in range(200))


class Stream:
    """A followed output in pieces; after `cut` bytes the connection is lost. Ends when the output does."""

    def __init__(self, data: bytes, cut: int | None) -> None:
        self._data, self._cut, self._response = data, cut, SimpleNamespace(close=lambda: None)

    def __iter__(self):
        for at in range(0, len(self._data), 37):  # pieces end in the middle of lines
            if self._cut is not None and at >= self._cut:
                raise OSError("connection lost")
            yield self._data[at : at + 37]

    def close(self) -> None:
        self._cut = 0


class Engine:
    """Keeps the whole output, as docker does. `cuts`: where the next connections break."""

    def __init__(self, *cuts: int | None) -> None:
        self.cuts = list(cuts)
        self.away = False

    def connect(self, timeout_s: float):
        def logs(container, *, stdout, stderr, stream=False, follow=False):
            return Stream(OUTPUT, self.cuts.pop(0) if self.cuts else None) if stream else OUTPUT

        return SimpleNamespace(api=SimpleNamespace(logs=logs), close=lambda: None)

    def ask(self, call):
        if self.away:
            raise UnreachableError("away")
        return call(self.connect(1))


def wait_for_copy(log: ContainerLog) -> None:
    log._copy.thread.join(120)
    assert not log._copy.thread.is_alive()


def test_what_stood_in_the_file_before_stays_and_the_output_follows(tmp_path):
    file = tmp_path / "log"
    file.write_bytes(b"of another job\n")
    log = ContainerLog(Engine(), "abc", file, 15)
    log.keep_up()
    wait_for_copy(log)
    log.finish()
    assert file.read_bytes() == b"of another job\n" + OUTPUT


@pytest.mark.parametrize("cuts", [(0,), (37, 999, 74), (len(OUTPUT) - 1,)])
def test_a_connection_that_breaks_loses_and_repeats_nothing(tmp_path, cuts):
    log = ContainerLog(Engine(*cuts), "abc", tmp_path / "log", 0)
    for _ in cuts:
        log.keep_up()
        wait_for_copy(log)
        assert OUTPUT.startswith((tmp_path / "log").read_bytes())
    log.finish()
    assert (tmp_path / "log").read_bytes() == OUTPUT


def test_a_new_process_goes_on_where_the_last_one_stopped(tmp_path):
    (tmp_path / "log").write_bytes(OUTPUT[:1001])
    ContainerLog(Engine(), "abc", tmp_path / "log", 0).finish()
    assert (tmp_path / "log").read_bytes() == OUTPUT


def test_a_second_follower_leaves_the_copy_to_the_first(tmp_path):
    code = (
        "import sys; from slipway.system.locks import lock_open_file; f = open(sys.argv[1], 'ab')\n"
        "print(lock_open_file(f), flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "log")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "True\n"
        second = ContainerLog(Engine(), "abc", tmp_path / "log", 0)
        second.keep_up()
        second.finish()
        assert (tmp_path / "log").read_bytes() == b""
    second.finish()
    assert (tmp_path / "log").read_bytes() == OUTPUT


def test_an_engine_that_is_away_at_the_end_is_said_so(tmp_path):
    engine = Engine()
    engine.away = True
    with pytest.raises(UnreachableError):
        ContainerLog(engine, "abc", tmp_path / "log", 0).finish()


def test_a_full_disk_is_named(tmp_path):
    (tmp_path / "log").symlink_to("/dev/full")
    with pytest.raises(ResourceError, match=r"disk: full while writing"):
        ContainerLog(Engine(), "abc", tmp_path / "log", 0).finish()


def test_a_copy_that_was_cut_writes_nothing_more(tmp_path):
    """Even when its thread comes back from a read that hung."""
    gate = threading.Event()

    class Hanging(Stream):
        def __iter__(self):
            yield OUTPUT[:37]
            gate.wait(120)
            yield OUTPUT[37:74]

    engine = Engine()
    hanging = Hanging(OUTPUT, None)
    engine.connect = lambda timeout_s: SimpleNamespace(
        api=SimpleNamespace(logs=lambda *_, **__: hanging), close=lambda: None
    )
    log = ContainerLog(engine, "abc", tmp_path / "log", 0)
    log.keep_up()
    thread = log._copy.thread
    while (tmp_path / "log").stat().st_size < 37:
        assert thread.is_alive()
    log.stop()
    gate.set()
    thread.join(120)
    assert (tmp_path / "log").read_bytes() == OUTPUT[:37]

"""Runs of a store: at work while their process lives, killed afterwards, and closed once by the next."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.agent import records
from slipway.errors import StateError
from slipway.pipeline.runs import Runs, tracking_digest
from tests.support.garbage import GARBAGE, Garbage

URI = "http://user:secret@127.0.0.1:5000"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def in_a_killed_process(action: Callable[[], object]) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            action()
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def killed_run(store: Path, name: str = "killed") -> None:
    def work() -> None:
        with Runs(store).open(name, "slipway run", URI, "f"):
            os.kill(os.getpid(), signal.SIGKILL)

    in_a_killed_process(work)


def test_a_run_is_on_record_while_it_works_and_forgotten_when_it_ends(store: Path) -> None:
    runs = Runs(store)
    with runs.open("pico -> local", "slipway run", URI, "flow-1") as entry:
        assert runs.entries() == [entry]
        assert runs.works(entry)
        assert (entry.name, entry.flow_run, entry.process.pid) == ("pico -> local", "flow-1", os.getpid())
        with runs.taken_over(entry) as killed:
            assert not killed
    assert runs.entries() == []
    assert list((store / "runs").iterdir()) == []


def test_a_run_that_raises_is_forgotten_too(store: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Runs(store).open("n", "c", URI, ""):
        raise KeyboardInterrupt
    assert Runs(store).entries() == []


def test_a_killed_run_is_taken_over_once(store: Path) -> None:
    killed_run(store)
    runs = Runs(store)
    (entry,) = runs.entries()
    assert not runs.works(entry)
    with runs.taken_over(entry) as killed, runs.taken_over(entry) as killed_again:
        assert (killed, killed_again) == (True, False)
    assert runs.entries() == []


def test_a_run_whose_books_could_not_be_closed_stays_on_record(store: Path) -> None:
    killed_run(store)
    runs = Runs(store)
    (entry,) = runs.entries()
    with pytest.raises(OSError, match="gone"), runs.taken_over(entry):
        raise OSError("gone")
    assert runs.entries() == [entry]


def test_another_host_s_run_is_left_alone(store: Path) -> None:
    killed_run(store)
    (file,) = (store / "runs").glob("*.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "host": "elsewhere"}))
    runs = Runs(store)
    with runs.taken_over(runs.entries()[0]) as killed:
        assert not killed
    assert len(runs.entries()) == 1


def test_a_lock_that_somebody_deleted_does_not_make_a_living_run_a_killed_one(store: Path) -> None:
    runs = Runs(store)
    with runs.open("n", "c", URI, "") as entry:
        (store / "runs" / f"{entry.id}.lock").unlink()
        assert runs.works(entry)


def test_the_password_of_the_tracking_server_is_not_written_down(store: Path) -> None:
    killed_run(store)
    (file,) = (store / "runs").glob("*.json")
    assert "secret" not in file.read_text()
    assert json.loads(file.read_text())["tracking"] == tracking_digest(URI) != tracking_digest("http://127.0.0.1:5000")


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda g: g.name)
def test_a_damaged_record_is_named(store: Path, garbage: Garbage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_BYTES", 1 << 20)
    killed_run(store)
    (file,) = (store / "runs").glob("*.json")
    garbage.put(file)
    with pytest.raises(StateError, match=file.name), garbage.around():
        Runs(store).entries()

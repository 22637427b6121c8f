"""What a resumable job remembers: lines survive a kill, a torn tail is cut off, and another job is refused by the key
that differs."""

import json
import os

import pytest

from slipway.errors import ConfigError, ResourceError
from slipway.weights.journal import Journal

JOB = {"what": "quantize", "tool": "slipway 1", "base": "b", "rules": {"*.o_proj": "fp8"}}


@pytest.fixture
def file(tmp_path):
    with Journal(tmp_path / "resume.jsonl", JOB) as journal:
        journal.record("a", "1" * 64)
        journal.record("b", "2" * 64)
    return tmp_path / "resume.jsonl"


def digests(file, job=JOB):
    with Journal(file, job) as journal:
        return dict(journal.digests)


def test_a_line_is_on_disk_as_soon_as_it_is_recorded(tmp_path):
    with Journal(tmp_path / "j", JOB) as journal:
        journal.record("a", "1" * 64)
        assert json.loads((tmp_path / "j").read_text().splitlines()[-1]) == {"tensor": "a", "sha256": "1" * 64}


def test_the_same_job_goes_on(file):
    assert digests(file) == {"a": "1" * 64, "b": "2" * 64}
    with Journal(file, JOB) as journal:
        journal.record("c", "3" * 64)
        journal.record("a", "4" * 64)
    assert digests(file) == {"a": "4" * 64, "b": "2" * 64, "c": "3" * 64}


def test_opening_again_never_takes_away_what_was_recorded(file, monkeypatch):
    """A kill while the journal is opened must not cost the work of hours."""
    before = file.read_bytes()
    monkeypatch.setattr(Journal, "_write", lambda *_: pytest.fail("nothing is to be written"))
    with Journal(file, JOB):
        assert file.read_bytes() == before


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_line_cut_short_is_dropped_and_the_next_one_starts_on_a_line_of_its_own(file, cut):
    file.write_bytes(file.read_bytes()[:-cut])
    with Journal(file, JOB) as journal:
        assert journal.digests == {"a": "1" * 64}
        journal.record("c", "3" * 64)
    assert digests(file) == {"a": "1" * 64, "c": "3" * 64}


@pytest.mark.parametrize("tail", [b"\0" * 30, b"\0" * 30 + b"\n", b'{"tensor": "c"}\n', b"[]\n", b"\xff\xfe\n"])
def test_what_a_disk_without_power_left_is_cut_off(file, tail):
    file.write_bytes(file.read_bytes() + tail)
    assert digests(file) == {"a": "1" * 64, "b": "2" * 64}
    assert tail not in file.read_bytes()


def test_a_journal_whose_first_line_was_cut_is_a_new_one(file):
    file.write_bytes(file.read_bytes()[:20])
    assert digests(file, {**JOB, "base": "other"}) == {}
    assert json.loads(file.read_text()) == {**JOB, "base": "other"}


@pytest.mark.parametrize(
    "key, value", [("what", "merge"), ("tool", "slipway 2"), ("base", "c"), ("rules", {}), ("adapter", "new")]
)
def test_another_job_is_refused_by_the_key_that_differs_and_nothing_is_lost(file, key, value):
    before = file.read_bytes()
    with pytest.raises(ConfigError, match=rf"unfinished work in .*made with {key} = .*expected {key} = .*delete"):
        Journal(file, {**JOB, key: value})
    assert file.read_bytes() == before


def test_two_processes_do_not_work_in_one_directory(file):
    with Journal(file, JOB), pytest.raises(ResourceError, match=rf"unfinished work in .*in use by pid {os.getpid()} "):
        Journal(file, JOB)
    assert len(digests(file)) == 2

"""Records of a target that others have damaged: one error that names the file, and no engine that runs is ever lost."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slipway.agent import records
from slipway.config.deploy import DeployConfig
from slipway.deployment.promotion import rollback, start
from slipway.deployment.state import status, stop
from slipway.errors import StateError
from tests.support.garbage import GARBAGE, Garbage
from tests.support.target import Ship, running

RECORDS = ["releases/{serving}/endpoint.json", "releases/{serving}/release.json", "history.jsonl"]


@pytest.fixture(autouse=True)
def small_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_BYTES", 1 << 20)


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda g: g.name)
@pytest.mark.parametrize("record", RECORDS)
def test_status_names_the_file_and_stop_ends_the_engine(
    ship: Ship, params: DeployConfig, record: str, garbage: Garbage
) -> None:
    release = ship()
    file = Path(params.root).resolve() / record.format(serving=release.name)
    garbage.put(file)
    assert len(running(params)) == 1
    with pytest.raises(StateError, match=file.name), garbage.around():
        status(params)
    try:
        stop(params)
    except StateError as err:  # the engine has ended before
        assert str(file) in err.thing
    assert running(params) == []


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda g: g.name)
def test_a_promotion_beside_a_damaged_record_changes_nothing(
    ship: Ship, params: DeployConfig, garbage: Garbage
) -> None:
    release = ship()
    file = Path(release.path) / "endpoint.json"
    garbage.put(file)
    before = running(params)
    with pytest.raises(StateError, match=r"endpoint of release .*slipway stop"), garbage.around():
        start(params)
    assert running(params) == before
    assert stop(params)
    assert ship().reused  # the advice of the message works


@pytest.mark.parametrize("kind", ["file", "directory", "to nothing", "elsewhere", "itself"])
def test_a_damaged_pointer_is_named_and_stop_ends_the_engine(ship: Ship, params: DeployConfig, kind: str) -> None:
    ship()
    second = ship(v=2)
    pointer = Path(params.root) / "current"
    pointer.unlink()
    if kind == "file":
        pointer.write_text(f"releases/{second.name}")
    elif kind == "directory":
        pointer.mkdir()
    else:
        pointer.symlink_to({"to nothing": "releases/0009-00000000", "elsewhere": "/etc", "itself": "current"}[kind])
    for action in (status, rollback):
        with pytest.raises(StateError, match=r"pointer .*current.*slipway stop"):
            action(params)
    assert len(running(params)) == 1
    with pytest.raises(StateError, match="pointer"):
        stop(params)
    assert running(params) == []


def test_a_history_that_cannot_have_happened_is_refused(ship: Ship, params: DeployConfig) -> None:
    ship()
    history = Path(params.root) / "history.jsonl"
    line = {"time": "2026-01-01T00:00:00Z", "action": "rollback", "release": "0042-0123abcd"}
    history.write_text(history.read_text() + json.dumps(line) + "\n")
    with pytest.raises(StateError, match=r"history\.jsonl, line 2: rollback to 0042-0123abcd"):
        rollback(params)


def test_a_deleted_history_keeps_what_serves(ship: Ship, params: DeployConfig) -> None:
    """As the message about a damaged one says."""
    ship()
    second = ship(v=2)
    (Path(params.root) / "history.jsonl").unlink()
    third = ship(v=3)
    assert third.name.startswith("0003-")
    assert status(params).previous == second.name
    assert status(params).releases == [second.name, third.name]


def test_an_engine_of_an_evaluation_that_runs_out_of_a_release_is_left_alone(ship: Ship, params: DeployConfig) -> None:
    from slipway.config.target import TargetConfig
    from slipway.engines.serving import service_of, serving

    release = ship()
    service = service_of(Path(release.path) / "engine", TargetConfig(), Path(params.root) / "evaluation")
    with serving(service) as server:
        assert len(stop(params)) == 1
        assert server.ended() is None


def test_an_engine_whose_release_was_deleted_is_named_by_status_and_ended_by_stop(
    ship: Ship, params: DeployConfig
) -> None:
    release = ship()
    (pid,) = running(params)
    shutil.rmtree(release.path)
    with pytest.raises(StateError, match=release.name):
        status(params)
    ended: list[int] = []
    with pytest.raises(StateError, match=r"current.*delete it"):
        stop(params, note=lambda stopped: ended.append(stopped.pid))
    assert ended == [pid]
    assert running(params) == []


def test_of_three_stops_at_once_one_ends_the_engine(ship: Ship, params: DeployConfig) -> None:
    release = ship()
    with ThreadPoolExecutor(3) as pool:
        ended = list(pool.map(lambda _: stop(params), range(3)))
    assert sorted(len(each) for each in ended) == [0, 0, 1]
    assert max(ended, key=len)[0].release == release.name
    assert running(params) == []

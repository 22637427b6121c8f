"""Promotion against a real server program: a bundle whose server is a small script that speaks the engine's
protocol."""

import errno
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from flows.stopping import Stopped as Interrupted
from flows.stopping import stopped_by_signals
from slipway.agent import releases
from slipway.agent.agent import Agent
from slipway.agent.holds import hold, unhold
from slipway.agent.paths import TargetPaths
from slipway.agent.releases import Releases
from slipway.config.deploy import DeployConfig
from slipway.deployment.decision.policy import Asked
from slipway.deployment.promotion import promote, rollback
from slipway.deployment.releases import Release, Stopped
from slipway.deployment.state import champion, status, stop, was_withdrawn
from slipway.errors import BundleError, CheckpointError, DataError, EngineError, GateError, ResourceError, StateError
from slipway.store.artifacts import Dataset, SearchIndex
from slipway.store.manifest import read_manifest
from slipway.store.store import Store
from tests.support.searched import searchable, searched_verdict, spoil_probes
from tests.support.target import JSON_ANSWER, Ship, make_engine, make_verdict, running


def on_disk(params: DeployConfig) -> list[str]:
    return [p.name for p in (Path(params.root) / "releases").iterdir()]


def serves(params: DeployConfig, release: Release) -> None:
    """One engine runs, it is this release's, and the endpoint file that clients follow leads to it."""
    now = status(params)
    assert now.healthy
    assert now.release is not None
    assert now.release.name == release.name
    endpoint = json.loads((Path(params.root) / "current" / "endpoint.json").read_text())
    assert endpoint["url"] == now.url
    assert running(params) == [endpoint["pid"]]
    assert httpx.get(f"http://{endpoint['host']}:{endpoint['port']}/health").status_code == 200


def test_the_first_promotion_serves_and_is_written_down(ship: Ship, params: DeployConfig, data: Dataset) -> None:
    assert champion(params) is None
    assert status(params).release is None
    release = ship()
    serves(params, release)
    root, path = Path(params.root), Path(release.path)
    assert path.name == f"0001-{release.digests['engine'][:8]}"
    assert (root / "current").readlink() == Path("releases") / release.name
    assert release == champion(params)
    assert (release.digests["dataset"], release.runs, release.outcome) == (data.digest, {"mlflow": "r1"}, "pass")
    assert [(s["id"], s["json"]) for s in release.smoke] == [("t0", True), ("t3", True)]
    assert (path / "card.md").read_text() == "# Card\n"
    assert [switch.action for switch in Releases(TargetPaths(root)).history.switches()] == ["promote"]
    assert release.engine(root).digest == release.digests["engine"]


def test_the_next_release_replaces_the_first_on_another_port_without_a_gap(ship: Ship, params: DeployConfig) -> None:
    first = ship()
    both: list[int] = []
    second = ship(lambda n: both.extend(running(params)) if n.startswith("switched") else None, v=2)
    assert len(both) == 2
    assert second.name.startswith("0002-")
    assert first.name in status(params).releases
    serves(params, second)


def test_the_same_engine_again_changes_nothing(ship: Ship, params: DeployConfig) -> None:
    first = ship()
    again = ship()
    assert again == first.model_copy(update={"reused": True})
    assert status(params).releases == [first.name]
    serves(params, first)


def test_the_same_engine_is_started_again_when_it_does_not_run(ship: Ship, params: DeployConfig) -> None:
    first = ship()
    os.kill(running(params)[0], signal.SIGKILL)
    wait_until(lambda: running(params) == [])
    assert status(params).url is None
    assert ship().reused
    serves(params, first)


def test_rollback_twice_steps_back_twice_then_says_there_is_no_more(ship: Ship, params: DeployConfig) -> None:
    first, second, third = ship(), ship(v=2), ship(v=3)
    assert rollback(params).name == second.name
    assert rollback(params).name == first.name
    with pytest.raises(ResourceError, match="no previous release"):
        rollback(params)
    serves(params, first)
    fourth = ship(v=4)
    assert fourth.name.startswith("0004-")
    assert status(params).previous == first.name  # not the third, which was left on purpose
    assert third.name != fourth.name


def test_an_engine_that_was_rolled_back_from_is_known_until_it_is_promoted_again(
    ship: Ship, params: DeployConfig, store: Store
) -> None:
    first, second = (release.engine(store.root) for release in (ship(), ship(v=2)))
    assert not was_withdrawn(params, second)
    rollback(params)
    assert was_withdrawn(params, second) and not was_withdrawn(params, first)
    ship(v=2)
    assert not was_withdrawn(params, second)


def test_an_index_comes_and_goes_with_its_engine(store: Store, data: Dataset, params: DeployConfig) -> None:
    """The pointer's release decides which index is searched; one engine with two indexes is two releases."""
    engine, small, large = make_engine(store, {"answer": JSON_ANSWER}), searchable(store, 2), searchable(store, 4)
    notes: list[str] = []

    def shipped(index: SearchIndex) -> Release:
        verdict = searched_verdict(store, engine, index)
        return promote(engine, verdict, data, {}, params, model="m", note=notes.append)

    def served_index() -> str:
        return str(read_manifest(Path(params.root) / "current/index")["digest"])

    first = shipped(small)
    assert first.retrieval is not None
    assert (first.retrieval.index, first.retrieval.retriever, served_index()) == (small.digest, "bm25", small.digest)
    assert first.checks["index"] == {"digest": small.digest, "probes": 16, "retrievers": ["bm25"]}
    second = shipped(large)
    assert (second.name.split("-")[0], served_index()) == ("0002", large.digest)
    assert shipped(large) == second.model_copy(update={"reused": True})
    assert any("32 probes find what they found" in note for note in notes)
    back = rollback(params)
    assert (back.name, served_index()) == (first.name, small.digest)
    assert back.checks["index"]["probes"] == 16
    index = back.index(store.root)
    assert index is not None and index.path == Path(back.path) / "index"
    serves(params, back)
    without = promote(engine, make_verdict(store, engine), data, {}, params, model="m")
    assert (without.reused, without.retrieval, (Path(without.path) / "index").exists()) == (False, None, False)


def test_an_index_goes_when_no_release_that_is_kept_has_it(store: Store, data: Dataset, params: DeployConfig) -> None:
    kept = params.model_copy(update={"keep_releases": 2})
    releases_of = []
    for version, documents in enumerate((2, 2, 4, 4)):
        engine = make_engine(store, {"answer": JSON_ANSWER, "v": version})
        verdict = searched_verdict(store, engine, searchable(store, documents))
        releases_of.append(promote(engine, verdict, data, {}, kept, model="m"))
        held = {json.loads(file.read_text())["rows"] for file in Path(params.root).glob("layers/*/index/index.json")}
        assert held == {8 * count for count in (2, 2, 4, 4)[max(0, version - 1) : version + 1]}
    assert sorted(on_disk(params)) == [release.name for release in releases_of[2:]]


def test_an_index_whose_probes_find_other_chunks_is_not_promoted(
    store: Store, data: Dataset, params: DeployConfig
) -> None:
    champion_engine, engine = (make_engine(store, {"answer": JSON_ANSWER, "v": v}) for v in (1, 2))
    first = promote(champion_engine, make_verdict(store, champion_engine), data, {}, params, model="m")
    index = searchable(store)
    spoil_probes(index.path)
    verdict = searched_verdict(store, engine, searchable(store))
    with pytest.raises(StateError, match=r"index .* of verdict .*: 1 probe\(s\) find other chunks"):
        promote(engine, verdict, data, {}, params, model="m")
    serves(params, first)
    assert on_disk(params) == [first.name]


def test_a_flipped_byte_of_an_index_keeps_its_release_from_coming_back(
    store: Store, data: Dataset, params: DeployConfig
) -> None:
    engine = make_engine(store, {"answer": JSON_ANSWER})
    first = promote(engine, searched_verdict(store, engine, searchable(store, 2)), data, {}, params, model="m")
    second = promote(engine, searched_verdict(store, engine, searchable(store, 4)), data, {}, params, model="m")
    file = Path(first.path) / "index/chunks.jsonl"
    changed = file.read_bytes().replace(b"d0", b"d1", 1)
    file.unlink()  # a hard link to the layer's
    file.write_bytes(changed)
    with pytest.raises(StateError, match=rf"index {first.retrieval.index[:12]} of release {first.name}"):  # type: ignore[union-attr]
        rollback(params)
    serves(params, second)


def test_rollback_before_any_promotion_is_refused(params: DeployConfig) -> None:
    with pytest.raises(ResourceError, match="no previous release"):
        rollback(params)


def test_a_damaged_previous_release_is_not_rolled_back_to(ship: Ship, params: DeployConfig) -> None:
    first, second = ship(), ship(v=2)
    flip_last_byte(Path(first.path) / "engine" / "model.gguf")
    with pytest.raises(BundleError, match=r"engine/model\.gguf.* other bytes"):
        rollback(params)
    serves(params, second)


def test_old_releases_are_pruned_but_never_the_serving_or_the_previous(ship: Ship, params: DeployConfig) -> None:
    names = [ship(v=v).name for v in range(5)]
    assert status(params).releases == names[-3:]
    rollback(params)
    rollback(params)
    fifth = ship(v=9)
    assert fifth.name.startswith("0006-")
    assert set(status(params).releases) >= {names[2], fifth.name}
    assert status(params).previous == names[2]


def test_a_held_release_is_never_pruned(ship: Ship, params: DeployConfig) -> None:
    first = ship()
    hold(Path(params.root), {"release": first.name, "by": "ann", "reason": "audit"})
    for version in range(1, 6):
        ship(v=version)
    assert first.name in status(params).releases
    unhold(Path(params.root), {"release": first.name})
    ship(v=9)
    assert first.name not in status(params).releases


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"die": True}, "unknown tensor type"),
        ({"loading": True}, "not healthy yet"),
        ({"answer": " "}, "empty answer to test row t0"),
        ({"answer": "x", "die_asked": True}, "an answer within"),
    ],
)
def test_an_engine_that_fails_its_checks_leaves_the_champion_and_nothing_else(
    ship: Ship, params: DeployConfig, model: dict[str, Any], message: str
) -> None:
    first = ship()
    impatient = params.model_copy(update={"start_timeout_s": 1.0 if "loading" in model else 60.0})
    with pytest.raises(EngineError, match=message) as caught:
        ship(config=impatient, **model)
    assert not caught.value.transient, "a refused candidate is a verdict: no task starts it again"
    serves(params, first)
    assert on_disk(params) == [first.name]


def test_a_first_promotion_that_fails_leaves_no_pointer(ship: Ship, params: DeployConfig) -> None:
    with pytest.raises(EngineError):
        ship(die=True)
    assert champion(params) is None
    assert on_disk(params) == []


def test_a_busy_port_range_is_named(ship: Ship, params: DeployConfig) -> None:
    first = ship()
    one_port = params.model_copy(
        update={"ports": (json.loads((Path(first.path) / "endpoint.json").read_text())["port"],) * 2}
    )
    with pytest.raises(ResourceError, match=f"{one_port.ports[0]}.*in use"):
        ship(config=one_port, v=2)
    serves(params, first)


@pytest.mark.parametrize("call", ["link", "replace"])
def test_a_full_disk_leaves_the_champion(
    ship: Ship, params: DeployConfig, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """ENOSPC from the operating system's call: while staging, and while recording after the switch."""
    first = ship()

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(args[0]))

    with monkeypatch.context() as patched:
        if call == "link":
            patched.setattr(releases.os, "link", full)
        else:
            real = Path.replace
            patched.setattr(Path, "replace", lambda a, b: full(b) if Path(b).name == "history.jsonl" else real(a, b))
        with pytest.raises(ResourceError, match="disk: full"):
            ship(v=2)
    serves(params, first)
    assert on_disk(params) == [first.name]


def test_files_are_copied_where_links_cannot_be_made(
    ship: Ship, params: DeployConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_device(source: Path, to: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(releases.os, "link", other_device)
    release = ship()
    assert (Path(release.path) / "engine" / "server").stat().st_nlink == 1
    serves(params, release)


def test_a_damaged_engine_is_refused(store: Store, data: Dataset, params: DeployConfig, ship: Ship) -> None:
    first = ship()
    engine = make_engine(store, {"answer": "2"})
    verdict = make_verdict(store, engine)
    flip_last_byte(engine.path / "model.gguf")
    with pytest.raises(CheckpointError, match=r"model\.gguf has another sha256"):
        promote(engine, verdict, data, {}, params, model="m")
    serves(params, first)
    assert on_disk(params) == [first.name]


@pytest.mark.parametrize("outcome", ["fail", "inconclusive"])
def test_without_a_passed_gate_nothing_is_promoted(
    store: Store, data: Dataset, params: DeployConfig, outcome: str
) -> None:
    engine = make_engine(store, {"answer": "2"})
    with pytest.raises(GateError, match=outcome):
        promote(engine, make_verdict(store, engine, outcome), data, {}, params, model="m")
    assert not Path(params.root).exists()


def test_a_verdict_about_another_engine_is_refused(store: Store, data: Dataset, params: DeployConfig) -> None:
    judged, other = make_engine(store, {"answer": "1"}), make_engine(store, {"answer": "2"})
    with pytest.raises(DataError, match="does not lead to this engine"):
        promote(other, make_verdict(store, judged), data, {}, params, model="m")


def test_concurrent_promotions_take_turns(ship: Ship, params: DeployConfig) -> None:
    made: list[Release] = []
    threads = [threading.Thread(target=lambda v=v: made.append(ship(v=v))) for v in (1, 2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(r.name[:4] for r in made) == ["0001", "0002"]
    serves(params, max(made, key=lambda r: r.name))


def test_a_promotion_that_waited_too_long_names_the_one_at_work(
    store: Store, data: Dataset, params: DeployConfig
) -> None:
    engine, agent = make_engine(store, {"answer": "1"}), Agent(Path(params.root))
    agent.call("begin", {"action": "promote", "engine": "abc0" * 16, "owner": "ann@laptop"})
    with pytest.raises(ResourceError, match=r"busy: promotion of abc0abc0abc0 by ann@laptop, for \d+ s"):
        promote(engine, make_verdict(store, engine), data, {}, params, model="m", lock_timeout_s=0.3)
    agent.close()
    assert (
        promote(engine, make_verdict(store, engine), data, {}, params, model="m", lock_timeout_s=0.3).name[:4] == "0001"
    )


STEPS = ["staged", "started", "smoke", "switched", "recorded", "stopped"]


@pytest.mark.parametrize("step", [*STEPS, "before the pid is known"])
def test_a_promotion_killed_at_any_step_leaves_something_serving_and_the_next_one_tidies(
    ship: Ship, params: DeployConfig, step: str
) -> None:
    first = ship()

    def die(note: str) -> None:
        if step in note:
            os.kill(os.getpid(), signal.SIGKILL)

    model = {"kill_parent": True} if step not in STEPS else {"v": 2}
    assert killed(lambda: ship(die, **model))
    switched = STEPS.index(step) >= 3 if step in STEPS else False
    now = status(params)
    assert now.healthy
    assert now.release is not None
    assert (now.release.name == first.name) is not switched
    recorded = STEPS.index(step) >= 4 if step in STEPS else False
    third = ship(v=3)
    serves(params, third)
    assert status(params).previous == (now.release.name if recorded else first.name)
    assert not [n for n in on_disk(params) if n.startswith(".")]


@pytest.mark.parametrize("step", ["started", "switched", "recorded"])
def test_a_killed_rollback_is_finished_or_undone_by_the_next_operation(
    ship: Ship, params: DeployConfig, step: str
) -> None:
    first, second = ship(), ship(v=2)

    def die(note: str) -> None:
        if step in note:
            os.kill(os.getpid(), signal.SIGKILL)

    assert killed(lambda: rollback(params, note=die))
    third = ship(v=3)
    serves(params, third)
    assert status(params).previous == (first.name if step == "recorded" else second.name)


@pytest.mark.parametrize("step", STEPS)
def test_a_promotion_interrupted_at_any_step_is_undone_before_the_record_and_finished_after_it(
    ship: Ship, params: DeployConfig, step: str
) -> None:
    """A real SIGTERM, which the flow makes an exception: one engine serves at once, with no operation after it."""
    first = ship()

    def interrupt(note: str) -> None:
        if step in note:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted), stopped_by_signals():
        ship(interrupt, v=2)
    now = status(params)
    assert now.release is not None
    assert (now.release.name == first.name) is (step in STEPS[:4])
    serves(params, now.release)


def test_stop_ends_the_engine_and_keeps_the_release(ship: Ship, params: DeployConfig) -> None:
    first = ship()
    serving = status(params).document["endpoint"]
    assert stop(params) == [Stopped(first.name, serving["pid"], serving["url"])]
    assert stop(params) == []
    assert running(params) == []
    now = status(params)
    assert now.release is not None
    assert (now.release.name, now.url, now.healthy) == (first.name, None, False)


def test_a_stranger_with_the_recorded_pid_is_left_alone(ship: Ship, params: DeployConfig) -> None:
    """After a reboot the pid may be anyone's; here it is made ours."""
    first = ship()
    stop(params)
    endpoint = {"pid": os.getpid(), "create_time": 1.0, "host": "127.0.0.1", "port": 1, "model": "m", "log": ""}
    (Path(first.path) / "endpoint.json").write_text(json.dumps(endpoint))
    assert not stop(params)


def test_an_engine_with_a_record_of_an_earlier_version_is_kept_across_a_clock_step(
    ship: Ship, params: DeployConfig
) -> None:
    """Such a record holds a creation time by the wall clock; here the clock was set since."""
    first = ship()
    file = Path(first.path) / "endpoint.json"
    record = json.loads(file.read_text())
    old = {k: v for k, v in record.items() if k not in ("started", "boot")}
    file.write_text(json.dumps({**old, "create_time": psutil.Process(record["pid"]).create_time() - 3600}))
    now = status(params)
    assert (now.url, now.healthy) == (record["url"], True)
    assert stop(params) == [Stopped(first.name, record["pid"], record["url"])]


def killed(action: Callable[[], object]) -> bool:
    """Run `action` in a forked process; whether SIGKILL ended it."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1] == signal.SIGKILL


def flip_last_byte(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_inconclusive_verdict_needs_a_person_and_a_failed_one_has_no_way(
    store: Store, data: Dataset, params: DeployConfig
) -> None:
    engine = make_engine(store, {"answer": "x"})
    undecided, failed = (make_verdict(store, engine, outcome) for outcome in ("inconclusive", "fail"))
    with pytest.raises(GateError, match=r"inconclusive.*--approve REASON"):
        promote(engine, undecided, data, {}, params, model="m")
    with pytest.raises(GateError, match="fail"):
        promote(engine, failed, data, {}, params, model="m", approved=True)
    release = promote(engine, undecided, data, {}, params, model="m", approved=True, asked=Asked(by="schedule"))
    assert (release.outcome, release.asked) == ("inconclusive", Asked(by="schedule"))
    assert champion(params) == release


def test_what_was_decided_is_looked_at_again_under_the_lock(
    store: Store, data: Dataset, params: DeployConfig, ship: Ship
) -> None:
    first = ship()

    def refuse() -> None:
        raise ResourceError("champion", "another one", first.name, "decide again")

    engine = make_engine(store, {"answer": "x"})
    with pytest.raises(ResourceError, match="another one"):
        promote(engine, make_verdict(store, engine), data, {}, params, model="m", recheck=refuse)
    assert on_disk(params) == [first.name]
    serves(params, first)

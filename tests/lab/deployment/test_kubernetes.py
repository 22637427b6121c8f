"""Promotion on a cluster, through the real client and the API server of tests/support/kubernetes_server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slipway.deployment import promotion, state
from slipway.deployment.kubernetes import client as kubernetes_client
from slipway.deployment.kubernetes.api import Reply
from slipway.deployment.kubernetes.target import Ask
from slipway.deployment.releases import Release
from slipway.errors import ConfigError, EngineError
from slipway.store.store import Store
from tests.support.kubernetes_scene import ONE, THREE, TWO, Scene, cluster_engine, deploy, fine, release
from tests.support.kubernetes_server import kubernetes_server, wait_until
from tests.support.target import make_data, make_verdict

FLAVORS = ["deployment", "kserve"]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with kubernetes_server(tmp_path) as (cluster, config):
        yield Scene(cluster, config)


def answers_as(name: str) -> Callable[[Ask], None]:
    """A check that asks the candidate and wants its own answer."""

    def check(ask: Ask) -> None:
        reply = ask("/v1/chat/completions", {"messages": []})
        assert (reply.status, reply.body) == (200, name.encode())

    return check


@pytest.mark.parametrize("flavor", FLAVORS)
def test_promote_twice_and_roll_back(scene: Scene, flavor: str) -> None:
    target = scene.target(flavor=flavor)
    for name in (ONE, TWO):
        target.promote(release(name), answers_as(name))
        assert target.status().serving == name
    assert target.status().healthy
    assert wait_until(lambda: len(scene.cluster.pods) == 1)  # the one before was let go
    assert target.rollback(None, answers_as(ONE)) == ONE
    status = target.status()
    assert (status.serving, status.healthy, status.lock, status.journal) == (ONE, True, None, None)
    assert [(switch.action, switch.release) for switch in status.history] == [
        ("promote", ONE), ("promote", TWO), ("rollback", ONE),
    ]  # fmt: skip
    assert status.releases == [ONE, TWO]


def test_clients_lose_nothing_while_releases_change(scene: Scene) -> None:
    """Through the one Service, while two promotions and a rollback go on."""
    target = scene.target()
    target.promote(release(ONE), fine)
    replies: list[Reply] = []
    done = threading.Event()

    def client() -> None:
        while not done.is_set():
            replies.append(scene.ask())

    clients = [threading.Thread(target=client) for _ in range(3)]
    for thread in clients:
        thread.start()
    target.promote(release(TWO, "slow"), fine)
    target.promote(release(THREE), fine)
    target.rollback(TWO, fine)
    done.set()
    for thread in clients:
        thread.join()
    assert {reply.status for reply in replies} == {200}
    assert {reply.body.decode() for reply in replies} == {ONE, TWO, THREE}


def no_good(_: Ask) -> None:
    raise EngineError("candidate", "answers garbage", "the recorded answers", "keep the champion")


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize(
    ("mode", "check", "message"),
    [("die", fine, "this model is no good"), ("serve", no_good, "answers garbage"), ("silent", fine, "not ready yet")],
)
def test_a_candidate_that_is_no_good_leaves_the_champion(
    scene: Scene, flavor: str, mode: str, check: Callable[[Ask], None], message: str
) -> None:
    scene.target(flavor=flavor).promote(release(ONE), fine)
    impatient = scene.target(flavor=flavor, start_timeout_s=1 if mode == "silent" else 60)
    bad = release(TWO, mode)
    with pytest.raises(EngineError, match=message), pytest.MonkeyPatch.context() as patch:
        if mode == "silent":
            patch.setattr("slipway.deployment.kubernetes.target.start_seconds", lambda _: 0.5)
        impatient.promote(bad, check)
    status = impatient.status()
    assert (status.serving, status.healthy, status.journal) == (ONE, True, None)
    assert [switch.release for switch in status.history] == [ONE]
    wait_until(lambda: len(scene.cluster.pods) == 1)


STEPS = ["begun", "started", "ready", "checked", "switched"]


@pytest.mark.parametrize("step", STEPS)
def test_an_orchestrator_that_is_gone_at_a_step_is_undone_by_the_next(scene: Scene, step: str) -> None:
    """As with kill -9: nothing of it runs on, its lease stays until it has stood still."""
    scene.target().promote(release(ONE), fine)
    doomed = scene.target("doomed")

    class Gone(BaseException):
        pass

    def stop_at(note: str) -> None:
        if note == step:
            raise Gone

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Gone):
        patch.setattr(doomed, "note", stop_at)
        patch.setattr(doomed, "undo", lambda journal: None)
        doomed.promote(release(TWO), fine)
    journal = scene.target().status().journal
    assert journal is not None
    assert journal.step == step
    scene.target("next").promote(release(THREE), fine)
    assert f"undoing promote of {TWO}, which ended at {step}" in scene.notes
    status = scene.target().status()
    assert (status.serving, status.journal) == (THREE, None)
    assert [switch.release for switch in status.history] == [ONE, THREE]


def test_what_was_recorded_is_finished_by_the_next(scene: Scene) -> None:
    scene.target().promote(release(ONE), fine)
    doomed = scene.target("doomed")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(doomed, "retire", lambda journal: (_ for _ in ()).throw(KeyboardInterrupt))
        doomed.promote(release(TWO), fine)
    with scene.target("next").changing("look", 5):
        pass
    assert f"finishing promote of {TWO}, which serves already" in scene.notes
    assert scene.target().status().serving == TWO
    wait_until(lambda: len(scene.cluster.pods) == 1)


def test_a_canary_is_weighed_from_1_and_its_death_takes_it_back(scene: Scene) -> None:
    canary = {"percent": [1, 50], "step_s": 0.3}
    target = scene.target(gateway="public", canary=canary)
    target.promote(release(ONE), fine)
    assert not any("shifted" in note for note in scene.notes)  # there was no champion to share with
    target.promote(release(TWO), fine)
    assert [note for note in scene.notes if "shifted" in note] == ["shifted 1%", "shifted 50%"]

    def kill_pods(note: str) -> None:
        scene.notes.append(note)
        if note == "shifted 1%":
            for pod in [pod for pod in scene.cluster.pods.values() if THREE in pod.name]:
                assert pod.process is not None
                pod.process.kill()

    target.note = kill_pods
    with pytest.raises(EngineError, match="died with exit code -9"):
        target.promote(release(THREE), fine)
    route = scene.cluster.objects["HTTPRoute", "chat"]
    assert [(b["name"], b["weight"]) for b in route["spec"]["rules"][0]["backendRefs"]] == [(f"chat-{TWO}", 100)]
    assert target.status().serving == TWO


def test_a_field_that_somebody_else_manages_is_named_and_not_overwritten(scene: Scene) -> None:
    target = scene.target()
    target.promote(release(ONE), fine)
    deployment = scene.cluster.objects["Deployment", f"chat-{ONE}"]
    deployment["owners"]["spec|replicas"] = "horizontal-pod-autoscaler"
    deployment["spec"]["replicas"] = 2
    with pytest.raises(ConfigError) as err:
        target.promote(release(TWO), fine)
    assert '.spec.replicas (conflict with "horizontal-pod-autoscaler")' in str(err.value)
    assert deployment["spec"]["replicas"] == 2


def test_old_releases_go_and_the_one_before_stays(scene: Scene) -> None:
    target = scene.target()
    for name in (ONE, TWO, THREE):
        target.promote(release(name), fine)
    assert target.prune(2) == [ONE]
    assert target.status().releases == [TWO, THREE]
    assert ("Deployment", f"chat-{ONE}") not in scene.cluster.objects
    assert target.rollback(None, fine) == TWO


def test_promotion_and_rollback_are_those_of_every_target(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's own functions, from verdict to smoke answers, on a cluster; the push alone is left out here."""
    monkeypatch.setattr(kubernetes_client, "push", lambda packed, repository, note: packed.bundle.digest)
    store = Store(tmp_path / "store")
    data, params = make_data(store), deploy(scene)

    def ship(key: str) -> Release:
        made = cluster_engine(tmp_path, key)
        return promotion.promote(made, make_verdict(store, made), data, {"card.md": "# Card\n"}, params, model="m")

    first, second = ship("a"), ship("b")
    assert [answer["answer"] for answer in second.smoke] == ["b"] * len(second.smoke)
    again = ship("b")
    assert (again.name, again.reused) == (second.name, True)
    assert promotion.rollback(params).name == first.name
    now = state.status(params)
    assert now.release is not None
    assert (now.release.name, now.healthy, now.previous) == (first.name, True, None)
    assert state.was_withdrawn(params, cluster_engine(tmp_path, "b"))
    assert [stopped.release for stopped in state.stop(params)] == [first.name]
    assert promotion.start(params).name == first.name

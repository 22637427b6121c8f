"""Journal, history and releases in ConfigMaps: written by version, and damaged ones named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.deployment.kubernetes.api import ChangedError, KubernetesAPI
from slipway.deployment.kubernetes.record import Journal, KubernetesRecord, next_name
from slipway.deployment.kubernetes.target import render
from slipway.errors import ResourceError, StateError
from tests.support.kubernetes_releases import kubernetes_params, kubernetes_release
from tests.support.kubernetes_server import Cluster, kubernetes_server

JOURNAL = Journal("promote", "0002-11111111", "0001-00000000", "begun")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Path]]:
    with kubernetes_server(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def record(server: tuple[Cluster, Path]) -> KubernetesRecord:
    server[0].objects.clear()
    params = kubernetes_params(kubeconfig=str(server[1]))
    return KubernetesRecord(KubernetesAPI(params), params)


def test_a_journal_is_open_until_it_is_ended(record: KubernetesRecord) -> None:
    assert record.journal() is None
    record.write_journal(JOURNAL)
    assert record.journal() == JOURNAL
    record.write_journal(None)
    assert record.journal() is None


def test_a_switch_and_recorded_are_one_write(record: KubernetesRecord) -> None:
    record.record(JOURNAL, "me")
    journal = record.journal()
    assert journal is not None
    assert journal.step == "recorded"
    (switch,) = record.history()
    assert (switch.action, switch.release, switch.owner) == ("promote", "0002-11111111", "me")


def test_a_release_comes_back_as_it_was_applied(record: KubernetesRecord) -> None:
    params = kubernetes_params()
    rendered = render(kubernetes_release(), params)
    record.keep(rendered)
    record.keep(rendered)  # the same again is no change
    assert record.release(rendered.name) == rendered
    assert record.releases() == [rendered.name]
    record.forget(rendered.name)
    with pytest.raises(StateError, match="not kept"):
        record.release(rendered.name)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"action": 1}'])
def test_damaged_records_are_named(record: KubernetesRecord, server: tuple[Cluster, Path], text: str) -> None:
    record.write_journal(JOURNAL)
    server[0].objects["ConfigMap", "chat-record"]["data"] = {"journal": text or "x", "history": f"{text or 'x'}\n"}
    for look in (record.journal, record.history):
        with pytest.raises(StateError):
            look()


def test_who_lost_the_lock_does_not_write_over_the_next(
    record: KubernetesRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    record.write_journal(JOURNAL)

    def changed(_: object, __: object) -> None:
        raise ChangedError("ConfigMap chat-record")

    monkeypatch.setattr(KubernetesAPI, "replace", changed)
    with pytest.raises(ResourceError, match="changed meanwhile"):
        record.write_journal(None)


def test_names_count_on() -> None:
    assert next_name([], "a" * 64) == "0001-aaaaaaaa"
    assert next_name(["0002-00000000", "0010-11111111"], "f" * 64) == "0011-ffffffff"

"""The look for a data version that nobody announced, on a real Prefect server with its events: git and DVC's remote are
asked, and a version that both have makes one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient

from flows.retrain import look_for_data
from slipway.config.load import load_config
from slipway.ops import data_versions as versions
from slipway.ops.data_versions import DataVersion
from slipway.system.ports import any_port
from tasks import data_version
from tests.support.data_repository import FIRST, RAW, SECOND, another_clone, commit, do, object_server, repository_in
from tests.support.deployed_server import deployed_server, runs_of, wait
from tests.support.world import ROOT, small_settings

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Prefect's own, about its dependencies
]
THIRD = SECOND + '{"a": 3}\n'


@pytest.fixture(scope="module")
def client(pytestconfig: pytest.Config) -> Iterator[SyncPrefectClient]:
    """A server with the deployments and their triggers."""
    with deployed_server(pytestconfig) as client:
        yield client


@pytest.fixture(params=["folder", "http"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Where versions are made, with a remote of either kind."""
    with ExitStack() as stack:
        remote = stack.enter_context(object_server()) if request.param == "http" else str(tmp_path / "remote")
        root = repository_in(tmp_path, remote)
        do(root, "dvc", "push", "-q")
        yield root


@pytest.fixture
def look(
    client: SyncPrefectClient, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], tuple[str, str]]:
    """A run of look-for-data in another clone: its state and what it says."""
    worker = another_clone(repository, "worker")
    monkeypatch.setattr(data_version, "ROOT", worker)
    monkeypatch.setenv("PREFECT_API_URL", str(client.api_url).rstrip("/"))
    settings = {**small_settings(tmp_path, "sqlite:///x.db", any_port()), "data.raw": RAW}
    words = [f"{key}={value}" for key, value in settings.items()]
    monkeypatch.chdir(ROOT)  # conf/
    assert load_config(ROOT / "conf", words).data.raw == RAW

    def run() -> tuple[str, str]:
        state: Any = look_for_data({}, words, return_state=True)
        return str(state.name), str(state.message)

    return run


def test_a_version_makes_one_run_once_git_and_the_remote_have_it(
    client: SyncPrefectClient, repository: Path, look: Callable[[], tuple[str, str]], tmp_path: Path
) -> None:
    def digests() -> list[str]:
        return [run["parameters"]["digest"] for run in runs_of(client, "retrain-on-data")][before:]

    def publish_order(text: str, *steps: tuple[str, ...]) -> DataVersion:
        commit(repository, text)
        version = versions.committed_version(repository, RAW)
        assert version
        for step in steps[:-1]:
            do(repository, *step)
            name, message = look()
            assert name in ("Waiting", "Unchanged") and digests().count(version.digest) == 0
            if step[0] == "git":
                assert (name, look()[0]) == ("Waiting", "Waiting") and "does not show its bytes" in message
        do(repository, *steps[-1])
        name, message = look()
        assert name == "Announced" and version.digest[:12] in message
        assert look()[0] == "Unchanged"
        return version

    before = len(runs_of(client, "retrain-on-data"))
    name, message = look()
    assert name == "Unchanged" and "is the first that was looked at" in message
    push, dvc_push = ("git", "push", "-q"), ("dvc", "push", "-q")
    second = publish_order(SECOND, push, dvc_push)
    third = publish_order(THIRD, dvc_push, push)
    first = publish_order(FIRST, push)  # as it was: the remote has it
    runs = wait(lambda: (made := runs_of(client, "retrain-on-data")[before:])[2:] and made)
    assert sorted(digests()) == sorted([first.digest, second.digest, third.digest]), "one run a version"
    assert {run["created_by"]["type"] for run in runs} == {"AUTOMATION"}
    asked = {run["parameters"]["digest"]: run["parameters"] for run in runs}
    for version, text in ((second, SECOND), (third, THIRD), (first, FIRST)):
        assert asked[version.digest]["revision"] == version.revision
        assert versions.bytes_of(data_version.ROOT, version, tmp_path / "bytes").read_text() == text

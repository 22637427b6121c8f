"""`rollback`, `start`, `stop` and `gc TARGET` on a real local target; no Prefect and no MLflow is anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from slipway.agent.agent import Agent
from slipway.cli.app import app
from slipway.config.deploy import DeployConfig
from slipway.deployment.promotion import promote
from slipway.deployment.state import status, stop
from slipway.errors import ConfigError, ResourceError
from slipway.ops.pending_messages import FILE, pending_messages
from slipway.store.store import Store
from slipway.system.ports import any_port
from tests.support.target import JSON_ANSWER, make_data, make_engine, make_verdict, running, target_params


@pytest.fixture
def params(tmp_path: Path) -> Iterator[DeployConfig]:
    """A target `spare` of a folder of configs, with three releases; the third serves."""
    params = target_params(str(tmp_path / "target")).model_copy(update={"target": "spare"})
    (tmp_path / "conf" / "deploy").mkdir(parents=True)
    (tmp_path / "conf" / "base.yaml").write_text(f"store: {{root: '{tmp_path}/store'}}\n")
    ports = list(params.ports)
    (tmp_path / "conf" / "deploy" / "spare.yaml").write_text(
        f"target: spare\nroot: '{params.root}'\nports: {ports}\nproxy: {{kind: none}}\nkeep_releases: 2\n"
    )
    store = Store(tmp_path / "store")
    data = make_data(store)
    for version in (1, 2, 3):
        engine = make_engine(store, {"answer": JSON_ANSWER, "v": version})
        promote(engine, make_verdict(store, engine), data, {}, params, model="m")
    yield params
    stop(params)


def slipway(tmp_path: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--conf", str(tmp_path / "conf")], catch_exceptions=False)


def test_a_target_is_rolled_back_started_and_stopped_by_its_name(params: DeployConfig, tmp_path: Path) -> None:
    done = slipway(tmp_path, "rollback", "spare")
    serving = status(params)
    assert serving.release is not None
    assert serving.release.name.startswith("0002-")
    assert f"{serving.release.name} serves again at {serving.url}" in done.output
    done = slipway(tmp_path, "stop", "spare", "--json")
    assert [engine["release"] for engine in json.loads(done.output)["engines"]] == [serving.release.name]
    assert running(params) == []
    started = json.loads(slipway(tmp_path, "start", "spare", "--json").output)
    assert (started["release"]["name"], started["healthy"]) == (serving.release.name, True)
    assert "serves already" in slipway(tmp_path, "start", "spare").output


def test_report_13_a_list_needs_no_lock_and_a_version_is_named_by_its_number(
    params: DeployConfig, tmp_path: Path
) -> None:
    """kamal#1658: a rollback wanted a version that nothing showed, and `--help` took the lock."""
    other = Agent(Path(params.root))
    other.call("begin", {"action": "promote", "engine": "a" * 64})
    assert slipway(tmp_path, "rollback", "--help").exit_code == 0
    rows = json.loads(slipway(tmp_path, "rollback", "spare", "--list", "--json").output)["versions"]
    other.close()
    assert [(row["name"][:4], row["state"]) for row in rows] == [
        ("0003", "serving"), ("0002", "previous"), ("0001", "returnable"),
    ]  # fmt: skip
    assert "0001-" in slipway(tmp_path, "rollback", "spare", "--list").output
    released = json.loads(slipway(tmp_path, "rollback", "spare", "1", "--json").output)["release"]
    assert released["name"].startswith("0001-")
    with pytest.raises(ResourceError, match="to 3: it cannot come back"):
        slipway(tmp_path, "rollback", "spare", "3")


def test_old_releases_of_a_target_go_when_a_person_says_so(params: DeployConfig, tmp_path: Path) -> None:
    assert "would remove 0001-" in slipway(tmp_path, "gc", "spare").output
    assert len(status(params).releases) == 3
    assert "removed 0001-" in slipway(tmp_path, "gc", "spare", "--yes").output
    assert [name[:4] for name in status(params).releases] == ["0002", "0003"]


def test_a_target_that_no_file_describes_is_named(params: DeployConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        slipway(tmp_path, "start", "nowhere")
    with pytest.raises(ConfigError, match="expected a target and a version"):
        slipway(tmp_path, "rollback", "spare", "1", "2")


def test_stop_says_that_nothing_ran(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(f"deploy: {{root: '{tmp_path}/target'}}\n")
    done = CliRunner().invoke(app, ["stop", "--conf", str(tmp_path)], catch_exceptions=False)
    assert (done.exit_code, done.output) == (0, "nothing ran on target local\n")


def test_stop_as_json_has_empty_lists_and_no_error_where_nothing_ran(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(f"deploy: {{root: '{tmp_path}/target'}}\nstore: {{root: '{tmp_path}/store'}}\n")
    done = CliRunner().invoke(app, ["stop", "--conf", str(tmp_path), "--json"], catch_exceptions=False)
    document = json.loads(done.stdout)
    assert done.exit_code == 0
    assert document == {"engines": [], "stages": [], "runs_at_work": []}


def test_a_key_that_no_section_knows_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(f"deploy: {{roots: '{tmp_path}/target'}}\n")
    with pytest.raises(ConfigError, match=r"config key deploy.roots: unknown.*did you mean root\?"):
        CliRunner().invoke(app, ["stop", "--conf", str(tmp_path)], catch_exceptions=False)


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Prefect answers."""
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{any_port()}/api")


@pytest.mark.usefixtures("away")
def test_whom_a_rollback_could_not_tell_is_said_and_told_later(params: DeployConfig, tmp_path: Path) -> None:
    store, blocks = tmp_path / "store", "notify.to=[slack-webhook/ops,custom-webhook/pager]"
    done = slipway(tmp_path, "rollback", "spare", blocks)
    assert "slack-webhook/ops, custom-webhook/pager not told yet: the next run tells it" in done.output
    (message,) = pending_messages(store)
    assert message.subject.startswith("spare: 0002-") and message.subject.endswith(" serves again")
    (store / FILE).write_text("{")
    done = slipway(tmp_path, "rollback", "spare", blocks, "--json")
    assert done.exit_code == 0 and "nobody was told of it" in done.stderr
    assert json.loads(done.stdout)["release"]["name"].startswith("0001-")


@pytest.mark.usefixtures("away")
@pytest.mark.parametrize("words", [[], ["notify.to=[custom-webhook/pager]", "notify.on=[drift]"]])
def test_a_rollback_that_nobody_wants_to_hear_of_leaves_no_message(
    params: DeployConfig, tmp_path: Path, words: list[str]
) -> None:
    assert "told" not in slipway(tmp_path, "rollback", "spare", *words).output
    assert pending_messages(tmp_path / "store") == []

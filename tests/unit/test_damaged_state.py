"""Every command beside every kind of damaged record: no traceback, exit 2 with the file's name, JSON with `--json`."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from slipway.agent import records
from slipway.cli.app import main
from slipway.config.load import Config, load_config
from slipway.deployment.promotion import promote, rollback
from slipway.errors import StateError
from slipway.pipeline.runs import Runs
from slipway.store.store import Store
from tests.support.garbage import GARBAGE, Garbage
from tests.support.target import JSON_ANSWER, make_data, make_engine, make_verdict, running, target_params

WORK = "store/work/merge-0123456789abcdef"
RECORDS = {
    "endpoint": "target/releases/*/endpoint.json",
    "release": "target/releases/*/release.json",
    "history": "target/history.jsonl",
    "run": "store/runs/*.json",
    "stage file": f"{WORK}/stage.json",
    "process": f"{WORK}/process.json",
    "manifest": "store/engine/*/manifest.json",
}
# What each command must refuse; the rest it does not need, or knows from elsewhere.
REFUSES = {
    "status": {"endpoint", "release", "history", "run"},
    "stop": {"history", "run"},
    "config": set(),
    "doctor": set(),
}


@dataclass
class House:
    """A served engine, a killed run and an unfinished stage, under one folder."""

    folder: Path
    config: Config

    def record(self, name: str) -> Path:
        (file,) = self.folder.glob(RECORDS[name])
        return file


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(records, "MAX_BYTES", 1 << 20)
    deploy = target_params(str(tmp_path / "target"))
    conf = tmp_path / "conf"
    conf.mkdir()
    first, last = deploy.ports
    (conf / "base.yaml").write_text(
        f"store: {{root: {tmp_path}/store, cache: {tmp_path}/cache}}\n"
        f"deploy: {{root: {deploy.root}, ports: [{first}, {last}], proxy: {{kind: none}}}}\n"
    )
    config = load_config(conf)
    store = Store(tmp_path / "store")
    engine = make_engine(store, {"answer": JSON_ANSWER})
    promote(engine, make_verdict(store, engine), make_data(store), {}, config.deploy, model="m")
    if (pid := os.fork()) == 0:
        with Runs(store.root).open("pico -> local", "slipway run", "u", ""):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    (tmp_path / WORK).mkdir(parents=True)
    (tmp_path / WORK / "stage.json").write_text(json.dumps({"stage": "merge", "params": {}}))
    (tmp_path / WORK / "process.json").write_text(json.dumps({"pid": 1, "started": 1, "boot": "b"}))
    yield House(tmp_path, config)
    for engine_pid in running(config.deploy):
        os.kill(engine_pid, signal.SIGKILL)


def run(house: House, command: str, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command in this process."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["slipway", command, "--conf", str(house.folder / "conf"), *options])
        with pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    return (code if isinstance(code, int) else 0, *capsys.readouterr())


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda g: g.name)
def test_no_command_meets_garbage_with_a_traceback(
    house: House, garbage: Garbage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One world a kind of garbage; each record in turn is damaged, read by commands that only look, and put back."""
    for name in RECORDS:
        file = house.record(name)
        original = file.read_bytes()
        garbage.put(file)
        for command in ("status", "config", "doctor"):
            with garbage.around():
                code, out, err = run(house, command, capsys, "--json")
            document = json.loads(out)
            assert "Traceback" not in out + err, (command, name)
            if name in REFUSES[command]:
                assert code == 2, (command, name, out)
                assert str(file) in document["error"]["thing"], (command, name)
                assert document["error"]["next_step"]
            else:
                assert code in ((0, 4) if command == "doctor" else (0,)), (command, name, out)
        put_back(file, original)
    assert len(running(house.config.deploy)) == 1


@pytest.mark.parametrize("garbage", [g for g in GARBAGE if g.name != "no permission"], ids=lambda g: g.name)
@pytest.mark.parametrize("name", ["endpoint", "release", "history", "run", "process"])
def test_stop_ends_what_runs_whatever_is_damaged(
    house: House, name: str, garbage: Garbage, capsys: pytest.CaptureFixture[str]
) -> None:
    file = house.record(name)
    garbage.put(file)
    code, out, err = run(house, "stop", capsys, "--json")
    document = json.loads(out)
    assert "Traceback" not in out + err
    assert running(house.config.deploy) == []
    assert len(document["engines"]) == 1
    assert code == (2 if name in REFUSES["stop"] else 0), out
    if code:
        assert str(file) in document["error"]["thing"]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda g: g.name)
def test_gc_a_rollback_and_a_promotion_name_the_damaged_record_and_change_nothing(
    house: House, garbage: Garbage, capsys: pytest.CaptureFixture[str]
) -> None:
    """`promote` and `rollback` by the functions that their flows call; the engine that serves goes on serving."""
    (serving,) = running(house.config.deploy)
    store = Store(house.folder / "store")
    engine = make_engine(store, {"answer": JSON_ANSWER, "v": 2})
    verdict, data = make_verdict(store, engine), make_data(store)
    for name in RECORDS:
        file = house.record(name) if name != "manifest" else engine.path / "manifest.json"
        original = file.read_bytes()
        garbage.put(file)
        with garbage.around():
            code, out, err = run(house, "gc", capsys, "--json")
        document = json.loads(out)
        assert "Traceback" not in out + err, name
        assert code in (0, 2), (name, out)
        if code:
            assert str(file) in document["error"]["thing"], name
            assert document["error"]["next_step"], name
        if name in ("release", "history") and garbage.name != "no permission":  # permissions do not bind root
            if name == "history":
                with pytest.raises(StateError, match=re.escape(str(file))):
                    rollback(house.config.deploy)
            with pytest.raises(StateError, match=re.escape(str(file))):
                promote(engine, verdict, data, {}, house.config.deploy, model="m")
        put_back(file, original)
        assert running(house.config.deploy) == [serving], name


def put_back(file: Path, original: bytes) -> None:
    from tests.support.garbage import remove

    remove(file)
    file.write_bytes(original)

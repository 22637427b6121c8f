"""What crosses the link for each stage, and where stages run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway.config.load import Config
from slipway.errors import ResourceError
from slipway.ops.chain.placement import Placement
from slipway.ops.chain.walk import PlannedStage, walk
from slipway.pipeline.remote_machine import MachineFacts, RemoteMachine
from slipway.store.artifacts import Artifact
from slipway.store.placed import PLACED, Placed
from tests.support.made_chain import make_chain

ADDRESS = "ssh://me@other"


class Answered(RemoteMachine):
    """A machine whose answers are given: what it has, and this machine's facts."""

    def __init__(self, config: Config, held: dict[str, str]) -> None:
        super().__init__(ADDRESS, "/x/slipway", "/x/python", keep_mb=1)
        self._config, self.held = config, held

    def ask(self, verb: str, document: Any, *_: Any) -> dict[str, Any]:
        if verb == "inventory":
            return {"artifacts": self.held}
        from slipway.engines.fingerprint import engine_fingerprint

        fingerprint = engine_fingerprint(self._config.engine, self._config.serving)
        return MachineFacts("other, 2 CPUs", 1 << 40, fingerprint).__dict__


def listed(*artifacts: Artifact) -> dict[str, str]:
    return {f"{one.kind}/{one.key}": one.digest for one in artifacts}


def planned(config: Config, root: Path, held: dict[str, str]) -> dict[str, PlannedStage]:
    chain = walk(config, root, lambda _: {}, [], Answered(config, held))
    return {stage.title: stage for stage in chain.stages}


def moves(stages: dict[str, PlannedStage]) -> Iterator[tuple[str, str, str]]:
    for title, stage in stages.items():
        for move in stage.moves:
            yield title, move.what, move.to


def remade(config: Config) -> Config:
    return config.model_copy(update={"train": config.train.model_copy(update={"seed": config.train.seed + 1})})


def size(artifact: Artifact) -> int:
    return sum(file["size"] for file in artifact.manifest["files"])


def test_before_the_first_run_what_stages_here_make_is_sent_once(config: Config, tmp_path: Path) -> None:
    stages = planned(config, tmp_path, {})
    assert list(moves(stages)) == [("train", "what fetch makes", ADDRESS), ("train", "what prepare makes", ADDRESS)]
    here = {title for title, stage in stages.items() if not stage.machine}
    assert here == {"fetch", "prepare", "gate"}


def test_what_is_made_here_already_is_sent_with_its_size_unless_it_is_there(config: Config, tmp_path: Path) -> None:
    made = make_chain(config, tmp_path)
    stages = planned(remade(config), tmp_path, listed(made["base"]))
    (move,) = stages["train"].moves
    assert (move.what, move.to, move.bytes) == (f"dataset {made['data'].digest[:12]}", ADDRESS, size(made["data"]))
    assert [title for title, *_ in moves(stages)] == ["train"]


def test_what_is_made_there_already_is_fetched(config: Config, tmp_path: Path) -> None:
    made = make_chain(config, tmp_path)
    merged = made["merged"]
    held = listed(merged)
    for file in merged.path.iterdir():
        file.unlink()
    stages = planned(config, tmp_path, held)
    assert (stages["merge"].state, "small files are fetched" in stages["merge"].why) == ("reused", True)
    assert (stages["quantize"].state, stages["quantize"].why) == ("follows", "fetched: checkpoint")


def placed_there(artifact: Artifact) -> None:
    names = tuple(file["path"] for file in artifact.manifest["files"])
    for name in names:
        (artifact.path / name).unlink()
    record = Placed(address=ADDRESS, folder="/x/slipway", python="/x/python", files=names)
    (artifact.path / PLACED).write_text(json.dumps(record.model_dump()))


def test_files_that_the_machine_lost_are_made_again(config: Config, tmp_path: Path) -> None:
    made = make_chain(config, tmp_path)
    placed_there(made["quantized"])
    assert planned(config, tmp_path, listed(made["quantized"]))["quantize"].state == "reused"
    stage = planned(config, tmp_path, {})["quantize"]
    assert (stage.state, stage.why) == ("runs", f"no longer on {ADDRESS}")


def test_a_stage_here_has_files_brought_that_lie_there(config: Config, tmp_path: Path) -> None:
    made = make_chain(config, tmp_path)
    placed_there(made["merged"])
    other = config.model_copy(update={"quantize": config.quantize.model_copy(update={"exclude": ["lm_head", "x"]})})
    stages = {stage.title: stage for stage in walk(other, tmp_path, lambda _: {}, []).stages}
    (move,) = stages["quantize"].moves
    assert (move.what, move.to) == (f"checkpoint {made['merged'].digest[:12]}", "here")
    assert move.bytes == size(made["merged"])


def test_a_machine_that_does_not_answer_refuses_the_run_before_any_work(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\necho 'ssh: connect to host other: No route to host' >&2; exit 255\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    machine = RemoteMachine(ADDRESS, "/x/slipway", "/x/python", keep_mb=1)
    with pytest.raises(ResourceError, match=r"ssh://me@other: ssh: connect.*No route to host"):
        walk(config, tmp_path, lambda _: {}, [], machine)


@pytest.mark.parametrize("stage", ["fetch", "prepare", "gate"])
def test_stages_that_read_no_weights_run_here(config: Config, stage: str) -> None:
    assert Placement(Answered(config, {})).address(stage) == ""
    assert Placement(None).address("merge") == ""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.engines.serving import RECORD
from slipway.ops.model_servers import left_over, model_servers
from slipway.runners.local import JOB_FILE
from slipway.system.processes import identify


@pytest.fixture
def process() -> Iterator[dict[str, object]]:
    """What a runner records of a process that runs."""
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield {"name": "x", **identify(sleeper.pid).model_dump(exclude_none=True)}
    sleeper.kill()
    sleeper.wait()


def server(store: Path, name: str) -> Path:
    folder = store / "work" / f"evaluate-{name}" / "server"
    folder.mkdir(parents=True)
    (folder / RECORD).write_text(json.dumps({"name": name, "port": 1, "service": "d"}))
    return folder


def test_a_server_whose_stage_was_killed_is_named_with_the_way_to_end_it(
    tmp_path: Path, process: dict[str, object]
) -> None:
    folder = server(tmp_path, "serve-1")
    (folder / JOB_FILE).write_text(json.dumps(process))
    (left,) = left_over(model_servers(tmp_path), [])
    assert left["what"] == f"process {process['pid']} serves a model that nobody asks"
    assert f"`kill {process['pid']}`" in left["advice"]
    (folder.parent / JOB_FILE).write_text(json.dumps(process))  # its stage lives
    assert left_over(model_servers(tmp_path), []) == []


def test_a_container_is_known_by_its_name(tmp_path: Path) -> None:
    server(tmp_path, "serve-2")
    elsewhere = [("serve-2", "container serve-2 on spark", "`docker rm -f serve-2`"), ("other", "container other", "x")]
    (left,) = left_over(model_servers(tmp_path), elsewhere)
    assert left["what"].startswith("container serve-2 on spark")


def test_what_ended_or_is_damaged_is_no_leftover(tmp_path: Path) -> None:
    server(tmp_path, "serve-3")
    (server(tmp_path, "serve-4") / RECORD).write_text("{")
    assert left_over(model_servers(tmp_path), []) == []

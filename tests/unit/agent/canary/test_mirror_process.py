from __future__ import annotations

import json
import os
import signal
import stat
import time
import urllib.request
from pathlib import Path

import pytest

from slipway.agent.canary.captured import CapturedPrompts
from slipway.agent.canary.mirror_process import CONFIG, SOCKET, MirrorConfig, MirrorProcess, read_config
from slipway.errors import ResourceError, StateError
from tests.support.faulty_engine import faulty


def ask(port: int) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body)
    urllib.request.urlopen(request, timeout=120).read()


def port_of(url: str) -> int:
    return int(url.split(":")[2].split("/")[0])


def test_a_mirror_is_started_asked_and_ended(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120) / "mirror"  # longer than a socket's path may be
    prompts = CapturedPrompts(tmp_path / "capture")
    prompts.turn_on(1, 1, "jo")
    mirror = MirrorProcess(folder)
    with faulty() as champion, faulty("plain") as candidate:
        config = MirrorConfig(
            ("127.0.0.1", port_of(champion)), ("127.0.0.1", port_of(candidate)), str(tmp_path / "capture")
        )
        host, port = mirror.start(config)
        try:
            assert host == "127.0.0.1" and read_config(folder) == config
            assert stat.S_IMODE((folder / SOCKET).stat().st_mode) == 0o600
            ask(port)
            deadline = time.monotonic() + 120
            while not (pairs := mirror.fetch(5)) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert pairs[0]["champion"]["text"] == pairs[0]["candidate"]["text"] != ""
            assert len(prompts.read(5)) == 1
            last = mirror.stop(wait_s=120)
        finally:
            mirror.stop()
    assert last is not None and last["mirrored"] == 1
    assert mirror.status() is None and mirror.stop() is None
    with pytest.raises(ResourceError, match="does not run"):
        mirror.fetch(1)


def test_a_mirror_that_was_killed_is_gone_and_another_takes_its_place(tmp_path: Path) -> None:
    mirror = MirrorProcess(tmp_path)
    try:
        mirror.start(MirrorConfig(("127.0.0.1", 9)))
        status = mirror.status()
        assert status is not None
        os.kill(status["pid"], signal.SIGKILL)
        os.waitpid(status["pid"], 0)
        assert mirror.status() is None
        mirror.start(MirrorConfig(("127.0.0.1", 10)))
        assert (mirror.status() or {})["config"]["champion"] == ["127.0.0.1", 10]
    finally:
        mirror.stop()


def test_one_that_does_not_start_says_why(tmp_path: Path) -> None:
    mirror = MirrorProcess(tmp_path)
    with pytest.raises(ResourceError, match="mirror"):
        mirror.start(MirrorConfig(("127.0.0.1", 9), capture="/proc/1/mem", at_once="many"))  # type: ignore[arg-type]
    (tmp_path / CONFIG).write_text("{")
    with pytest.raises(StateError, match="mirror's config"):
        read_config(tmp_path)

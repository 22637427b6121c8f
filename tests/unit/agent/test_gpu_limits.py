"""Memory of a GPU by taking it, through a driver with libcuda's calls; on a GPU it was not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.agent.agent import Agent
from slipway.agent.gpu_limits import BLOCK, available
from slipway.errors import ResourceError
from tests.support.libcuda import compiled_driver


def asked(tmp_path: Path, **document: object) -> dict:
    return Agent(tmp_path / "target").call("gpu_limits", dict(document), lambda _: None)


def test_blocks_until_the_driver_gives_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(compiled_driver(tmp_path / "driver", blocks=7)))
    (gpu,) = asked(tmp_path)["gpus"]
    assert gpu == {"bytes": 7 * BLOCK, "stopped": "the driver gives no more"}


def test_shared_memory_is_left_above_the_floor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(compiled_driver(tmp_path / "driver", blocks=7)))
    (gpu,) = asked(tmp_path, unified=True, floor=2 * available())["gpus"]
    assert gpu == {"bytes": 0, "stopped": "MemAvailable would fall under the floor"}


def test_a_driver_that_fails_or_is_not_there_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResourceError, match=r"libcuda.so.1"):
        asked(tmp_path)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(compiled_driver(tmp_path / "driver", blocks=1, init=100)))
    with pytest.raises(ResourceError, match="cuInit gives error 100"):
        asked(tmp_path)

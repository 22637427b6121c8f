"""What the file system and Prefect did to a flow, as one error."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from prefect.exceptions import PrefectException

from slipway.errors import ResourceError, StageError
from slipway.system.ports import any_port
from tasks.failures import REASON_CHARS, failures_named


def test_a_server_that_went_away_is_named_with_the_next_step() -> None:
    url = f"http://127.0.0.1:{any_port('127.0.0.1')}"
    with pytest.raises(ResourceError, match=r"Prefect: ConnectError: .*make up") as caught, failures_named():
        httpx.get(url)
    assert caught.value.exit_code == 4
    assert isinstance(caught.value.__cause__, httpx.ConnectError)


def test_nonsense_of_any_length_from_prefect_is_bounded() -> None:
    with pytest.raises(ResourceError) as caught, failures_named():
        raise PrefectException("x" * 10_000)
    assert len(str(caught.value.value)) == REASON_CHARS


def test_a_file_that_the_system_refuses_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=f"file {tmp_path}/absent: No such file"), failures_named():
        (tmp_path / "absent").read_text()


def test_what_is_no_failure_of_the_world_passes_unchanged() -> None:
    for error in (StageError("a", "b", "c", "d"), OSError("no file is named"), ValueError("a bug")):
        with pytest.raises(type(error)) as caught, failures_named():
            raise error
        assert caught.value is error

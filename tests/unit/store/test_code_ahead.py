"""The code version out of a process of its own is the one that this process computes."""

from __future__ import annotations

import pytest

from slipway.errors import SlipwayError
from slipway.store.code_ahead import code_digest_of, start_code_digest
from slipway.store.code_version import code_digest


def test_a_started_digest_is_the_digest() -> None:
    start_code_digest("stages.fetch")
    assert code_digest_of("stages.fetch") == code_digest("stages.fetch")


def test_without_a_start_it_is_computed_here() -> None:
    assert code_digest_of("stages.gate") == code_digest("stages.gate")


def test_a_process_that_fails_leaves_the_error_to_us() -> None:
    start_code_digest("stages.none")
    with pytest.raises(SlipwayError):
        code_digest_of("stages.none")


def test_where_no_process_can_be_made_it_is_computed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/no/such/python")
    start_code_digest("stages.fetch")
    assert code_digest_of("stages.fetch") == code_digest("stages.fetch")

"""The engine section: one pinned source package, and at least one slot."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slipway.config.engine import EngineConfig


def test_the_source_is_pinned_by_version_and_sha256():
    engine = EngineConfig()
    assert engine.version.count(".") == 2
    assert len(bytes.fromhex(engine.sha256)) == 32


@pytest.mark.parametrize("keys", [{"slots": 0}, {"context": 127}, {"threads": 0}, {"build_jobs": 0}], ids=str)
def test_no_slot_no_context_and_no_thread_are_refused(keys):
    with pytest.raises(ValidationError, match=next(iter(keys))):
        EngineConfig(**keys)


def test_threads_of_null_stand_for_all_cores():
    assert EngineConfig(threads=None).threads is None

"""The merge section: a proof samples something, and a shard holds something."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slipway.config.merge import MergeConfig


@pytest.mark.parametrize(
    "keys", [{"max_shard_gb": 0}, {"proof_layers": 0}, {"proof_tokens": 0}, {"max_logit_error": 0}], ids=str
)
def test_an_empty_proof_is_refused(keys):
    with pytest.raises(ValidationError, match=next(iter(keys))):
        MergeConfig(**keys)


def test_the_checkpoint_is_virtual_unless_asked_otherwise():
    assert MergeConfig().materialize is False

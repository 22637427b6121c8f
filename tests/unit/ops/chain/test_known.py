"""What is known beforehand of what a stage yields."""

from __future__ import annotations

from slipway.ops.chain.known import Known
from slipway.store.artifacts import Dataset


def test_what_is_made_goes_before_what_stands_in_for_it() -> None:
    made, newest = Dataset(uri="/a", digest="a"), Dataset(uri="/b", digest="b")
    assert Known(made, newest).any() == made
    assert Known(stand_in=newest).any() == newest
    assert Known().any() is None

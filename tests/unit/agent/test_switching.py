"""Without a proxy nothing stands before the engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.agent.engines import Endpoint
from slipway.agent.paths import TargetPaths
from slipway.agent.settings import Settings
from slipway.agent.switching import Portless, switcher_for
from slipway.errors import ResourceError


def test_a_target_without_a_proxy_says_that_its_port_changes(tmp_path: Path) -> None:
    switcher = switcher_for(TargetPaths(tmp_path), Settings())
    assert isinstance(switcher, Portless)
    assert switcher.describe()["address"] is None
    assert "the port changes" in switcher.describe()["note"]
    new = Endpoint("h", 1, "m", "log")
    switcher.configure(new)
    switcher.switch(None, new)
    assert switcher.hold(new) == {"seconds": 0.0, "cut": None}
    with pytest.raises(ResourceError, match="a proxy that divides them"):
        switcher.share(new, new, 10)
    switcher.restore(new)
    switcher.stop()
    assert switcher.drain(new) == {"seconds": 0.0, "cut": None}
    assert list(tmp_path.iterdir()) == []

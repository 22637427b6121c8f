"""Who is told of what: nobody by default, and blocks by their two names."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.config.load import load_config
from slipway.config.notify import KINDS
from slipway.errors import ConfigError

CONF = Path(__file__).resolve().parents[3] / "conf"


def test_nobody_is_told_by_default() -> None:
    assert load_config(CONF).notify.to == []
    assert load_config(CONF, ["notify.to=[slack-webhook/ops]"]).notify.on == list(KINDS)


@pytest.mark.parametrize("block", ["ops", "a/b/c", "/ops", "slack-webhook/", "' slack-webhook/ops'", "7"])
def test_a_block_that_is_no_block_is_refused(block: str) -> None:
    with pytest.raises(ConfigError, match=r"notify\.to"):
        load_config(CONF, [f"notify.to=[{block}]"])


def test_an_event_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"notify\.on"):
        load_config(CONF, ["notify.on=[passed]"])

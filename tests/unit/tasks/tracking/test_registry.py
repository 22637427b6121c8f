"""The registry without MLflow: a switch while it is away is written down; the flow room proves the rest with a real
one."""

from __future__ import annotations

from pathlib import Path

from slipway.config.load import Config
from slipway.deployment.pending_alias import pending_aliases
from slipway.system.ports import any_port
from tasks.tracking.registry import follow_pointer


def test_a_switch_while_mlflow_is_away_stands_and_leaves_its_alias_pending(tmp_path: Path) -> None:
    config = Config.model_validate(
        {"tracking": {"uri": f"http://127.0.0.1:{any_port()}"}, "store": {"root": str(tmp_path)}}
    )
    assert follow_pointer(config, "a" * 64) == ""
    (row,) = pending_aliases(tmp_path)
    assert (row.target, row.line, row.engine) == ("local", config.line, "a" * 64)

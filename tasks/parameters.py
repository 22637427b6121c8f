"""A flow's parameters -> its config, with secrets kept out of whatever is said about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slipway.config.form import run_config
from slipway.config.load import Config
from slipway.deployment.decision.routing import routed
from slipway.system.redact import mask_logs, masked_errors
from tasks.provenance import ROOT

CONF = ROOT / "conf"

mask_logs()  # whoever runs a flow, a terminal or a Prefect worker: no log record is made with a secret in it


@masked_errors()
def resolved(config: Any, overrides: Sequence[str] = (), *, route: bool = True) -> Config:
    """A flow's first line: a partial config over `conf/`, then `overrides`; a whole `Config` stays itself. `target:
    auto` becomes a target, unless `route` leaves that to `judged_candidate`, which knows how long the training took.

    Raises ConfigError, without secrets in its text.
    """
    whole = run_config(CONF, config, overrides)
    return routed(whole, CONF) if route else whole

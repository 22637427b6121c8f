"""`slipway explain`: the decision about a release, about what a target serves, or of the last run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway.config.load import Config, load_config
from slipway.deployment.decision.record import FILE, Decision, parse_decision
from slipway.deployment.decision.signature import FILE as SIGNATURE
from slipway.deployment.decision.signature import signer_sentence, trust_here
from slipway.deployment.state import status
from slipway.deployment.target import session
from slipway.errors import ConfigError, StateError
from slipway.system.json_files import as_model, is_present, read_json

_NUMBER = re.compile(r"(\d+)(-[0-9a-f]{8})?")


@dataclass(frozen=True)
class Explained:
    """A decision, and who signed it, for a person. `checks`: what was asked at the target before the switch, of a
    release that has such a record."""

    decision: Decision
    signature: str
    checks: dict[str, Any] = field(default_factory=dict)


def explained(name: str | None, conf: Path, overrides: list[str]) -> Explained:
    """The decision that `name` is about: a release of the config's target (`3`, `0003`, `0003-3fa9c1d2`), a row of
    conf/deploy (what it serves now); without one the last run's, else what the config's target serves.

    Raises ConfigError for a name that is neither, StateError where there is no decision or its record is damaged.
    """
    if name is None:
        config = load_config(conf, overrides)
        last = _of_last_run(Path(config.store.root))
        return Explained(last, "of the last run, as it stands in the store") if last else _of_release(config, None)
    if match := _NUMBER.fullmatch(name):
        return _of_release(load_config(conf, overrides), f"{int(match[1]):04d}{match[2] or ''}")
    rows = sorted(file.stem for file in (conf / "deploy").glob("*.yaml"))
    if name not in rows:
        expected = f"a release as `slipway status` lists them, or a target: {', '.join(rows)}"
        raise ConfigError("argument of explain", name[:200], expected, "name one of them")
    return _of_release(load_config(conf, [*overrides, f"layers.deploy=deploy/{name}"]), None)


def _of_release(config: Config, wanted: str | None) -> Explained:
    """The decision of a release by name or number; None: of the one that serves."""
    now, target = status(config.deploy), config.deploy.target
    current = now.release.name if now.release else None
    matches = (name for name in now.releases if name == wanted or name.split("-")[0] == wanted)
    chosen = current if wanted is None else next(matches, None)
    if chosen is None:
        value, expected = wanted or "nothing serves", f"one of {', '.join(now.releases) or '(none)'}"
        raise StateError(f"release of target {target}", value, expected, "`slipway status` lists them")
    with session(config.deploy) as agent:
        text, signature = (
            agent.call("document", {"release": chosen, "document": document, "optional": True})["text"]
            for document in (FILE, SIGNATURE)
        )
        records = agent.call("status", {})["releases"]
    if text is None:
        raise StateError(
            f"release {chosen} of target {target}",
            "holds no decision",
            "a release of this version of Slipway",
            "it was made before decisions were recorded; its folder's verdict.json has the gate",
        )
    decision = parse_decision(text, f"decision of release {chosen} of target {target}")
    trust = trust_here(config.deploy.trust, Path(config.store.root))
    checks: dict[str, Any] = next((record.get("checks", {}) for record in records if record["name"] == chosen), {})
    return Explained(decision, signer_sentence(text, signature, trust), checks)


def _of_last_run(store: Path) -> Decision | None:
    file = store / "last-run.json"
    document: dict[str, Any] = read_json(file, "the last run", "run again") if is_present(file) else {}
    record = document.get("decision")
    return as_model(Decision, record, f"decision of the last run: {file}", "run again") if record else None

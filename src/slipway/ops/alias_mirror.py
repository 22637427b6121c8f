"""The champion alias of a target as a mirror of its pointer: where they differ, and setting it to what serves.

The pointer decides. When MLflow is away, a switch is written down in the store (`deployment.pending_alias`); every
command that looks here sets what is pending once MLflow answers again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from slipway.config.load import Config
from slipway.deployment import state
from slipway.deployment.pending_alias import pending_aliases, settle, write_down
from slipway.errors import ResourceError
from slipway.ops.mlflow_api import MlflowApi, mlflow_api
from slipway.ops.services import Services

Mirrored = Literal["same", "differs", "not registered", "nothing serves", "cannot tell"]


@dataclass(frozen=True)
class Mirror:
    """One target's alias beside its pointer: `pointer` and `names` are engine digests, empty where there is none;
    `sentence` says it to people, empty when all is well."""

    target: str
    alias: str
    line: str
    state: Mirrored
    pointer: str = ""
    names: str = ""
    pending: bool = False
    sentence: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def alias_of(root: Path, target: str) -> str:
    """The champion alias of a target, after mlflow/aliases.yaml of the project at `root`."""
    policy = yaml.safe_load((root / "mlflow" / "aliases.yaml").read_text(encoding="utf-8"))
    return str(policy["champion"]).format(target=target)


def mirror(config: Config, now: state.Status | None = None) -> Mirror:
    """How alias and pointer of the config's target stand; never raises for an MLflow that is away. `now`: what the
    target said already."""
    release = (now or state.status(config.deploy)).release
    target, alias = config.deploy.target, alias_of(Services.here().root, config.deploy.target)
    if release is None:
        return Mirror(target, alias, config.line, "nothing serves")
    pending = any(one.target == target for one in pending_aliases(Path(config.store.root)))
    about = Mirror(target, alias, release.model, "cannot tell", release.digests["engine"], pending=pending)
    try:
        api = mlflow_api(config.tracking)
        if api is None:
            return _as(about, "cannot tell", sentence="tracking.uri is no server: the next run sets the alias")
        return _compared(about, api)
    except ResourceError as err:
        return _as(about, "cannot tell", sentence=f"{err.thing} {err.value}: alias {alias} not looked at")


def seen(config: Config, now: state.Status | None = None, *, mend: bool) -> Mirror:
    """`mirror`, after `follow_pointer` where a switch of this target is pending or `mend` asks for it."""
    at = mirror(config, now)
    return follow_pointer(config) if at.pending or (mend and at.state == "differs") else at


def follow_pointer(config: Config) -> Mirror:
    """Set the target's alias to what its pointer names, and what is pending of other targets. When MLflow is away, that
    is written down and the result says so; nothing is raised for it."""
    before = mirror(config)
    store = Path(config.store.root)
    if before.state == "nothing serves":
        return before
    try:
        api = mlflow_api(config.tracking)
        if api is None:
            raise ResourceError("MLflow", "tracking.uri is no server", "a server", "the next run sets the alias")
        _set(api, before.target, before.line, before.pointer, store)
        _catch_up(api, store)
    except ResourceError as err:
        write_down(store, before.target, before.line, before.pointer)
        why = f"{err.thing} {err.value}: alias {before.alias} is set as soon as MLflow answers"
        return _as(before, "cannot tell", pending=True, sentence=why)
    return mirror(config)


def _catch_up(api: MlflowApi, store: Path) -> None:
    """Set what was written down for any target of this store."""
    for row in pending_aliases(store):
        _set(api, row.target, row.line, row.engine, store)


def _set(api: MlflowApi, target: str, line: str, engine: str, store: Path) -> None:
    """An engine that MLflow knows no version of has nothing to name: there is nothing pending then."""
    if version := api.version_of(line, engine):
        api.set_alias(line, alias_of(Services.here().root, target), version)
    settle(store, target, engine)


def _compared(about: Mirror, api: MlflowApi) -> Mirror:
    names = api.alias_digest(about.line, about.alias)
    if names == about.pointer:
        return _as(about, "same", names=about.pointer)
    if not api.version_of(about.line, about.pointer):
        why = f"MLflow has no version of {about.line} with engine {about.pointer[:12]}, which serves"
        return _as(about, "not registered", names=names or "", sentence=why)
    value = f"names engine {names[:12]}" if names else "names nothing"
    why = f"alias {about.alias} {value}, the pointer {about.pointer[:12]}: `slipway status --mend` sets it"
    return _as(about, "differs", names=names or "", sentence=why)


def _as(about: Mirror, mirrored: Mirrored, **changes: Any) -> Mirror:
    return Mirror(**{**asdict(about), "state": mirrored, **changes})

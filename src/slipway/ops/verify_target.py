"""`slipway verify TARGET`: every byte of what a target serves, read where it lies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from slipway.config.load import load_config
from slipway.deployment.bundle.verification import Verified, verify
from slipway.deployment.decision.signature import trust_here
from slipway.deployment.target import session
from slipway.errors import StateError

HERE = ("local", "slurm")  # the target's folder is on a file system of this machine


def verify_target(name: str, conf: Path, overrides: list[str]) -> Verified:
    """The release that the target of the row `name` of conf/deploy serves, checked in full, by this store's signer and
    those that the config trusts; behind ssh by the target's own trust.

    Raises StateError where nothing serves, BundleError for what is not as it was signed."""
    config = load_config(conf, [f"layers.deploy=deploy/{name}", *overrides])
    with session(config.deploy) as target:
        current = target.call("status", {})["current"]
        if current is None:
            raise StateError(f"target {name}", "nothing serves there", "a release", "`slipway promote` makes one")
        path = Path(current["path"])
        if config.deploy.kind in HERE:
            trust = trust_here(config.deploy.trust, Path(config.store.root))
            return verify(path, replace(trust, policy=config.deploy.trust.policy))[0]
        answer = target.call("verify", {"release": current["name"], "full": True})
        signed, files, seconds = [answer["signed"]], int(answer["files"]), float(answer["seconds"])
        return Verified("release", path, current["name"], "", "", files, 0, {}, signed, seconds)

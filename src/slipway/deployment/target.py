"""What promotion asks of a machine that serves, and which machine `deploy.kind` names.

Every kind of target has the same agent (ADR 44) and differs in how it is reached: a new one is a module of this room
and a row in `target_for`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from slipway.config.deploy import DeployConfig
from slipway.deployment.local import LocalTarget
from slipway.errors import ConfigError, SlipwayError
from slipway.store.artifacts import Engine, SearchIndex

Document = dict[str, Any]
Note = Callable[[str], None]


class TargetClient(Protocol):
    """The agent of a target, wherever it stands."""

    def call(self, verb: str, document: Document, note: Note = ...) -> Document:
        """The result of a verb of the agent. Raises what the agent raises, and ResourceError when it cannot be
        reached."""

    def deliver(
        self,
        engine: Engine,
        documents: Mapping[str, str],
        model: str,
        note: Note,
        wait_s: float = ...,
        index: SearchIndex | None = ...,
    ) -> Document:
        """Bring the bytes of an engine, and of the index that it is searched with, to the target, outside of a
        transaction, with the documents of the release where a bundle carries them; the part of `stage`'s document that
        names them. `wait_s`: seconds to wait for another holder of the target."""

    def start_plan(self, bundle: Path) -> Document:
        """The start plan of a bundle of this store for that target."""

    def restart_plan(self, release: str) -> Document:
        """The start plan of a release that is on the target, by its folder there; empty where the release's own
        counts."""

    def reach(self, endpoint: Mapping[str, Any]) -> AbstractContextManager[str]:
        """A URL of the API of an engine that answers at this endpoint on the target, for the time of the block."""

    def close(self) -> None:
        """End what is open: undone before its record, finished from there on."""


def status_of(target: TargetClient) -> Document:
    """What the agent's verb `status` says of a target, for a decision about it. Raises StateError when a record that
    decides is damaged: the serving release's, history, journal or holds. A damaged record of another release is in
    `damaged` only."""
    document = target.call("status", {})
    for row in damaged_in(document):
        if row["decides"]:
            raise SlipwayError.from_json(row["error"])
    return document


def damaged_in(status: Mapping[str, Any]) -> list[Document]:
    """Rows of records that the agent passed over as damaged, in a document of its verb `status`."""
    return list(status.get("damaged", ()))


def target_for(params: DeployConfig) -> TargetClient:
    """The target that `deploy.kind` names. Raises ConfigError for `auto`, which a run and a promotion make a target."""
    if params.target == "auto":
        raise ConfigError("deploy.target", "auto", "a target by its name", "name one: only runs and `promote` choose")
    kinds: dict[str, Callable[[DeployConfig], TargetClient]] = {
        "local": LocalTarget,
        "spark": _spark,
        "slurm": LocalTarget,  # its agent stands where jobs are submitted
        "kubernetes": _kubernetes,
    }
    return kinds[params.kind](params)


def _spark(params: DeployConfig) -> TargetClient:
    from slipway.deployment.ssh.spark import SparkTarget  # ssh, staging, bundles: a look at this machine needs none

    return SparkTarget(params)


def _kubernetes(params: DeployConfig) -> TargetClient:
    from slipway.deployment.kubernetes.client import KubernetesClient  # packing, signing, the client: others need none

    return KubernetesClient(params)


@contextmanager
def session(params: DeployConfig) -> Iterator[TargetClient]:
    """The target for the time of the block; a transaction that it leaves open is ended with it. Where an error ends the
    block and the undo fails as well, the error says both."""
    target = target_for(params)
    try:
        yield target
    except SlipwayError as err:
        try:
            target.close()
        except SlipwayError as left:
            raise type(err)(err.thing, err.value, err.expected, f"{err.next_step}. And {left}") from left
        raise
    finally:
        target.close()


def settings_of(params: DeployConfig) -> Document:
    """The settings that a target's agent keeps, out of the config."""
    return {
        "host": params.host,
        "ports": list(params.ports),
        "start_timeout_s": params.start_timeout_s,
        "keep_releases": params.keep_releases,
        "runtime": "" if params.runtime == "none" else params.runtime,
        "way": params.way,
        "reserve_gb": params.reserve_gb,
        "proxy": params.proxy.model_dump(mode="json"),
        **({"slurm": params.slurm.model_dump(mode="json", exclude_none=True)} if params.slurm else {}),
    }

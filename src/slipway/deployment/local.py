"""The target `local`: its agent is an object of this process, its engines are processes of this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.agent.agent import Agent
from slipway.agent.changes import LOCK_WAIT_S
from slipway.config.deploy import DeployConfig
from slipway.store.artifacts import Engine, SearchIndex

if TYPE_CHECKING:
    from slipway.deployment.target import Document, Note


class LocalTarget:
    """The agent of a folder of this machine."""

    def __init__(self, params: DeployConfig) -> None:
        self.agent, self._params = Agent(Path(params.root)), params

    def call(self, verb: str, document: Document, note: Note = lambda _: None) -> Document:
        """The result of a verb. Raises what the agent raises."""
        return self.agent.call(verb, document, note)

    def deliver(
        self,
        engine: Engine,
        documents: Mapping[str, str],
        model: str,
        note: Note,
        wait_s: float = LOCK_WAIT_S,
        index: SearchIndex | None = None,
    ) -> Document:
        """Pack and sign; large files are linked. Raises as `own_delivery.deliver_here`."""
        from slipway.deployment.bundle.own_delivery import deliver_here  # signing and packing: a look needs neither

        return deliver_here(
            engine, self._params, self.agent, note, documents=documents, model=model, index=index, wait_s=wait_s
        )

    def start_plan(self, bundle: Path) -> Document:
        """The start plan of a bundle of this machine; its release carries the model. Raises as `start_document`."""
        from slipway.deployment.start_document import start_document  # pydantic models of engines: a look needs none

        return {name: value for name, value in start_document(bundle).items() if name != "model"}

    def restart_plan(self, release: str) -> Document:
        """Made anew for every start: an earlier version wrote none, and none of its releases carried its model. Empty
        for a release that has no engine any more: the agent says so."""
        from slipway.deployment.start_document import start_document

        bundle = Path(release) / "engine"
        return start_document(bundle) if bundle.is_dir() else {}

    @contextmanager
    def reach(self, endpoint: Mapping[str, Any]) -> Iterator[str]:
        """The engine's own address."""
        yield str(endpoint["url"])

    def close(self) -> None:
        """End what is open: undone before its record, finished from there on."""
        self.agent.close()

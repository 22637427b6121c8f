"""The target `local`: its agent is an object of this process, its engines are processes of this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.agent.agent import Agent
from slipway.config.deploy import DeployConfig
from slipway.store.artifacts import Engine

if TYPE_CHECKING:
    from slipway.deployment.target import Document, Note


class LocalTarget:
    """The agent of a folder of this machine."""

    def __init__(self, params: DeployConfig) -> None:
        self.agent = Agent(Path(params.root))

    def call(self, verb: str, document: Document, note: Note = lambda _: None) -> Document:
        """The result of a verb. Raises what the agent raises."""
        return self.agent.call(verb, document, note)

    def deliver(
        self,
        engine: Engine,
        documents: Mapping[str, str],  # noqa: ARG002 (of the protocol)
        model: str,  # noqa: ARG002
        note: Note,  # noqa: ARG002
        wait_s: float = 0.0,  # noqa: ARG002
    ) -> Document:
        """Nothing to bring: the release links the files of the store."""
        return {"engine": {"path": str(engine.path)}}

    def start_plan(self, bundle: Path) -> Document:
        """The start plan of a bundle of this machine. Raises as `start_document`."""
        from slipway.deployment.start_document import start_document  # pydantic models of engines: a look needs none

        return start_document(bundle)

    def restart_plan(self, release: str) -> Document:
        """Made anew for every start: an earlier version wrote none. Empty for a release that has no engine any more:
        the agent says so."""
        bundle = Path(release) / "engine"
        return self.start_plan(bundle) if bundle.is_dir() else {}

    @contextmanager
    def reach(self, endpoint: Mapping[str, Any]) -> Iterator[str]:
        """The engine's own address."""
        yield str(endpoint["url"])

    def close(self) -> None:
        """End what is open: undone before its record, finished from there on."""
        self.agent.close()

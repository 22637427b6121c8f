"""The target `spark`: its agent stands on a machine behind ssh, to which bundles are copied."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.agent.changes import LOCK_WAIT_S
from slipway.config.deploy import DeployConfig
from slipway.errors import ConfigError
from slipway.store.artifacts import Engine, SearchIndex

if TYPE_CHECKING:
    from slipway.deployment.ssh.target import SshSession
    from slipway.deployment.target import Document, Note


class SparkTarget:
    """The agent of another machine: one login and one session from the first call to `close`."""

    def __init__(self, params: DeployConfig) -> None:
        self._params = params
        self._opened = ExitStack()
        self._session: SshSession | None = None

    def call(self, verb: str, document: Document, note: Note = lambda _: None) -> Document:
        """The result of a verb. Raises what the verb raises there; ResourceError for a machine that does not answer or
        a lost link, ConfigError for a login that is no target."""
        return self._there().call(verb, document, note)

    def deliver(
        self,
        engine: Engine,
        documents: Mapping[str, str],
        model: str,
        note: Note,
        wait_s: float = LOCK_WAIT_S,
        index: SearchIndex | None = None,
    ) -> Document:
        """Pack, sign and copy what the target lacks. Raises as `bundle_delivery.deliver`."""
        from slipway.deployment.bundle.delivery import deliver  # signing and packing: a look needs neither

        return deliver(
            engine, self._params, self._there(), time.time(), note,
            documents=documents, index=index, model=model, wait_s=wait_s,
        )  # fmt: skip

    def start_plan(self, bundle: Path) -> Document:
        """The start plan of a bundle that carries its model. Raises as `start_document`."""
        from slipway.deployment.start_document import start_document

        return start_document(bundle, here=False)

    def restart_plan(self, release: str) -> Document:  # noqa: ARG002 (of the protocol)
        """Empty: a release there has its own."""
        return {}

    @contextmanager
    def reach(self, endpoint: Mapping[str, Any]) -> Iterator[str]:
        """A tunnel to the engine's port on the target's loopback. Raises ResourceError for a port that the set-up does
        not allow."""
        with self._there().tunnel(int(endpoint["port"])) as port:
            yield f"http://127.0.0.1:{port}/v1"

    def close(self) -> None:
        """End the session: the agent undoes what is not recorded, and finishes the rest."""
        self._session = None
        self._opened.close()

    def _there(self) -> SshSession:
        from slipway.deployment.ssh.target import open_target  # OpenSSH and its files: local targets need none

        if self._session is None:
            if self._params.ssh is None:
                raise ConfigError("deploy.ssh", "absent", "how the target is reached", "set deploy.ssh.host and user")
            self._session = self._opened.enter_context(open_target(self._params.ssh))
        return self._session

"""Prefect UI artifacts: progress, tables, the run report, links. Keys are per kind, so that the UI keeps a history."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.utilities.urls import url_for

from slipway.cli.progress import describe
from slipway.deployment.decision.policy import Asked
from slipway.errors import ConfigError
from slipway.ops.message import Message, stuck
from slipway.system.redact import mask, mask_tree
from slipway.system.throttle import Throttle

SHOWN = ("train", "quantize")
UPDATE_EVERY_S = 2.0


class ProgressArtifact:
    """A bar in the Prefect UI for the long stages; updated at most every two seconds, and at the end."""

    def __init__(self, label: str) -> None:
        self._label, self._id, self._throttle = label, UUID(int=0), Throttle(UPDATE_EVERY_S)

    def update(self, event: dict[str, Any]) -> None:
        """Show a progress event of a stage process."""
        total = event.get("total")
        if self._label not in SHOWN or not total or not (self._throttle.due() or event["done"] == total):
            return
        percent = min(100.0, 100.0 * event["done"] / total)
        if self._id.int:
            update_progress_artifact(self._id, progress=percent, description=mask(describe(event)))
        else:
            self._id = _uuid(
                create_progress_artifact(
                    progress=percent, key=key(self._label, "progress"), description=mask(describe(event))
                )
            )


class ChangingTable:
    """One table artifact whose rows change while the run goes on: made by the first `show`, then written over."""

    def __init__(self, name: str) -> None:
        self._key, self._id = key(name), UUID(int=0)

    def show(self, rows: list[dict[str, Any]], description: str) -> None:
        """These rows, in place of those before."""
        masked = mask_tree(rows)
        if not self._id.int:
            self._id = _uuid(create_table_artifact(table=masked, key=self._key, description=description))
            return
        with get_client(sync_client=True) as client:
            client.update_artifact(self._id, ArtifactUpdate(data=json.dumps(masked), description=description))


def key(*parts: str) -> str:
    """Prefect artifact keys: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def table(name: str, rows: list[dict[str, Any]], description: str) -> None:
    """A table artifact; the keys of the first row are its columns."""
    create_table_artifact(table=mask_tree(rows), key=key(name), description=description)


def markdown(name: str, text: str, description: str) -> None:
    """A Markdown artifact."""
    create_markdown_artifact(markdown=mask(text), key=key(name), description=description)


def link(name: str, url: str, text: str) -> None:
    """A link artifact; nothing where there is no page to link to (MLflow without a server)."""
    if url:
        create_link_artifact(link=mask(url), link_text=text, key=key(name))


def links(urls: Mapping[str, str], **texts: str) -> None:
    """A link artifact for each name, with its text; `urls` has the name's address."""
    for name, text in texts.items():
        link(name, urls[name], text)


def flow_run_id() -> str:
    """The id of the current flow run, empty without one."""
    return str(flow_run.id or "")


def name_flow_run(name: str) -> None:
    """Call the current flow run by what it makes, instead of the two random words that Prefect gave it."""
    if flow_run.id:
        with get_client(sync_client=True) as client:
            client.set_flow_run_name(UUID(flow_run.id), name)


def requester(user: str) -> Asked:
    """Who asked for the current flow run: a schedule, an automation's event, else a person, by `user` when they started
    it in this process."""
    if not flow_run.id:
        return Asked(user=user)
    with get_client(sync_client=True) as client:
        record = client.read_flow_run(UUID(flow_run.id))
    creator = record.created_by
    name = str(creator.display_value or "") if creator else ""
    if record.auto_scheduled or (creator and creator.type == "SCHEDULE"):
        return Asked(by="schedule", user=name, flow_run=flow_run.id)
    if creator and creator.type == "AUTOMATION":
        return Asked(by="event", user=name, flow_run=flow_run.id)
    return Asked(by="person", user=name if record.deployment_id else user, flow_run=flow_run.id)


def flow_run_url() -> str:
    """The page of the current flow run, empty without a UI."""
    return url_for("flow-run", obj_id=flow_run.id) or "" if flow_run.id else ""


def stuck_message(run_id: str) -> Message:
    """What is told of a flow run that crashed or was ended for its time. Raises ConfigError where there is
    none of this id."""
    try:
        with get_client(sync_client=True) as client:
            record = client.read_flow_run(UUID(run_id))
    except (ValueError, ObjectNotFound) as err:
        raise ConfigError("run", run_id[:100], "the id of a flow run", "`prefect flow-run ls`") from err
    state = record.state
    page = url_for("flow-run", obj_id=run_id) or ""
    name, text = (state.name or "unknown", state.message or "") if state else ("unknown", "")
    return stuck(record.name, run_id, name, text, page)


def _uuid(value: Any) -> UUID:
    return value if isinstance(value, UUID) else UUID(str(value))

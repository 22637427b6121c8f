"""Section `notify`: who is told of what. Short because a section is one file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from slipway.config.base import Section

Kind = Literal["pass", "fail", "inconclusive", "rollback", "drift", "stuck"]
KINDS: tuple[Kind, ...] = ("pass", "fail", "inconclusive", "rollback", "drift", "stuck")


def _check_block(slug: str) -> str:
    kind, _, name = slug.partition("/")
    if not kind or not name or "/" in name or slug != slug.strip():
        raise PydanticCustomError("block", "TYPE/NAME of a block in Prefect: slack-webhook/ops")
    return slug


class NotifyConfig(Section):
    """Messages by Prefect's notification blocks, which hold the addresses and their secrets. Nothing of it is in a
    key."""

    to: list[Annotated[str, AfterValidator(_check_block)]] = Field(
        default_factory=list,
        description="Blocks, TYPE/NAME as `prefect block ls` shows them: `slack-webhook/ops`, "
        "`custom-webhook/pager`, `slipway-mail/team`; none: nobody is told.",
    )
    on: list[Kind] = Field(
        default_factory=lambda: list(KINDS),
        description="What is told: the gate's outcome, a rollback, drift of what serves, a run that got stuck.",
    )

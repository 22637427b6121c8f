"""Section `store`: where artifacts and caches lie. Short because a section is one file."""

from __future__ import annotations

from pydantic import Field

from slipway.config.base import Folder, Section


class StoreConfig(Section):
    """Where bytes live."""

    root: Folder = Field(".slipway", description="Artifacts, work folders and service data.")
    cache: Folder = Field("~/.cache/slipway", description="Downloads and engine builds, shared between clones.")

"""A sealed index in a store: pushed, verified, dropped, searched."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.config.load import Config
from slipway.config.store_address import KEY_VARIABLE, StoreAddress, store_address
from slipway.ops.searching import open_configured_embedder
from slipway.store.manifest import read_manifest

if TYPE_CHECKING:
    from slipway.rag.index import Index

OnRows = Callable[[int, int], None]


def address_of(url: str) -> StoreAddress:
    """The store at a URL, with the key of the environment. Raises ConfigError."""
    return store_address(url, os.environ.get(KEY_VARIABLE))


def pushed(path: Path, url: str, alias: str, on_rows: OnRows) -> dict[str, Any]:
    """Push the index in a directory; what the store holds then. The index is checked as every opening checks it."""
    from slipway.rag.search import open_index
    from slipway.rag.stores.push import push
    from slipway.rag.stores.store import open_store

    store = open_store(address_of(url))
    index, digest = open_index(path), _digest(path)
    return {"store": store.place, "alias": alias, "index": digest, **vars(push(index, digest, store, alias, on_rows))}


def verified_in_store(path: Path, url: str, alias: str, config: Config) -> dict[str, Any]:
    """What the store holds, when it is the index in a directory, whole, and the configured embedder made it."""
    from slipway.rag.search import check_embedder, open_index
    from slipway.rag.stores.push import verify
    from slipway.rag.stores.store import open_store

    store = open_store(address_of(url))
    index, digest = open_index(path), _digest(path)
    held = verify(index, digest, store, alias)
    checks = f"record, {held.rows} rows, {len(index.about['probes'])} probes"
    if index.vectors is not None:
        check_embedder(index, open_configured_embedder(config))
        checks = f"{checks}, embedder"
    document = {name: value for name, value in vars(held).items() if name not in ("written", "former")}
    return {"store": store.place, "alias": alias, "index": digest, **document, "verified": checks}


def dropped(path: Path, url: str, alias: str) -> dict[str, Any]:
    """Remove the collection of the index in a directory from a store."""
    from slipway.rag.stores.push import drop
    from slipway.rag.stores.store import open_store

    store = open_store(address_of(url))
    return {"store": store.place, "alias": alias, "dropped": drop(_digest(path), store, alias)}


def searched_in_store(index: Index, path: Path, url: str, alias: str) -> Index:
    """The index with its searches answered by a store. Raises StateError where the alias serves another index."""
    from slipway.rag.stores.push import check_served
    from slipway.rag.stores.store import open_store
    from slipway.rag.stores.through import through

    store = open_store(address_of(url))
    return through(index, store, check_served(index, _digest(path), store, alias))


def _digest(path: Path) -> str:
    return str(read_manifest(path)["digest"])

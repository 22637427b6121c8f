"""Addresses of stores: every form, what is refused, and credentials that show nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.config.store_address import store_address
from slipway.errors import ConfigError
from slipway.system.redact import mask


@pytest.mark.parametrize(
    ("url", "kind", "base", "file"),
    [
        ("milvus://db", "milvus", "http://db:19530", None),
        ("milvus+https://db.example.com:443", "milvus", "https://db.example.com:443", None),
        ("milvus:///data/a%20b.db", "milvus", None, Path("/data/a b.db")),
        ("elasticsearch://[::1]:9201/", "elasticsearch", "http://[::1]:9201", None),
        ("elasticsearch+https://u:p%40ss@es/prefix", "elasticsearch", "https://es:9200/prefix", None),
        ("faiss:///srv/indexes", "faiss", None, Path("/srv/indexes")),
    ],
)
def test_every_form(url: str, kind: str, base: str | None, file: Path | None) -> None:
    address = store_address(url)
    assert (address.kind, address.file) == (kind, file)
    assert base is None or address.base == base


@pytest.mark.parametrize(
    "url",
    ["", "milvus", "milvus://", "http://db", "milvus://x.db", "milvus:///x", "milvus:///", "faiss://", "faiss:///",
     "faiss://host/x", "elasticsearch://", "elasticsearch:///a", "elasticsearch://h:99999", "elasticsearch://h:port",
     "elasticsearch://[::1", "milvus+https:///a.db", "elasticsearch://h?x=1", "milvus://h#a", "milvus://300.1.1.1",
     "faiss:///a%00b", "milvus:///a%0a.db", "milvus+ssh://h", "elasticsearch://***@h", "faiss+https:///a",
     "milvus:// h"],
)  # fmt: skip
def test_what_is_no_store_is_refused_by_name(url: str) -> None:
    with pytest.raises(ConfigError, match="store: "):
        store_address(url)


def test_credentials_show_nowhere() -> None:
    address = store_address("elasticsearch://elastic:pa%24sword9@es:9200", "key-of-the-store")
    assert address.user == ("elastic", "pa$sword9") and address.api_key.get_secret_value() == "key-of-the-store"
    for shown in (str(address), repr(address), address.place, address.base, str(address.model_dump(mode="json"))):
        assert "sword9" not in shown and "key-of-the-store" not in shown
    assert mask("tried pa$sword9 and key-of-the-store") == "tried *** and ***"
    with pytest.raises(ConfigError) as refused:
        store_address("elasticsearch://elastic:pa%24sword9@es:port")
    assert "sword9" not in str(refused.value)


@pytest.mark.parametrize("key", ["two\nlines", "schl\u00fcssel", "a b"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(key: str) -> None:
    with pytest.raises(ConfigError, match="a key of ASCII characters") as refused:
        store_address("elasticsearch://es", key)
    assert key not in str(refused.value)

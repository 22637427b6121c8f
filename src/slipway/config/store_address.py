"""Where a store of vectors is, and the key that opens it. In no section of the config: it is given to a command and
goes into no key, form or file.

    milvus://HOST[:PORT]            a Milvus server; milvus+https:// over TLS
    milvus:///PATH/NAME.db          a file of milvus-lite
    elasticsearch://HOST[:PORT]     Elasticsearch; elasticsearch+https:// over TLS
    faiss:///PATH                   a folder
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from slipway.config.base import SecretUrl, Section, check_authority, of_scheme
from slipway.errors import ConfigError
from slipway.system.redact import mask_forms, register

StoreKind = Literal["milvus", "elasticsearch", "faiss"]
PORTS = {"milvus": 19530, "elasticsearch": 9200}
SCHEMES = ("milvus", "milvus+https", "elasticsearch", "elasticsearch+https", "faiss")
FILES = ("milvus", "faiss")
KEY_VARIABLE = "SLIPWAY_STORE_API_KEY"
_FORMS = "milvus://HOST, milvus:///PATH/NAME.db, elasticsearch://HOST or faiss:///FOLDER"


class StoreAddress(Section):
    """A store: its URL, which may hold a user and a password, and an API key or token."""

    url: Annotated[SecretUrl, AfterValidator(of_scheme("milvus", "elasticsearch", "faiss"))] = Field(
        description="Where the store is. Credentials are never shown."
    )
    api_key: SecretStr | None = Field(None, description="API key (Elasticsearch) or token (Milvus).")

    @model_validator(mode="after")
    def _check(self) -> Self:
        parts = urlsplit(self.url.get_secret_value())
        host = parts.netloc.rpartition("@")[2]
        if parts.scheme not in SCHEMES:
            raise PydanticCustomError("url", f"a URL of {', '.join(SCHEMES)}")
        if any(unquote(char) < " " for char in re.findall(r"%[01][0-9a-fA-F]|[\x00-\x1f]", parts.path)):
            raise PydanticCustomError("url", "a path without control characters")
        if parts.query or parts.fragment:
            raise PydanticCustomError("url", "a URL without `?` and `#`")
        if self.file is None:
            check_authority(host)
            if host.endswith(".db"):
                raise PydanticCustomError("url", "milvus:///PATH/NAME.db, with three slashes, for a file")
        elif host or len(parts.path) < 2 or parts.scheme not in FILES:
            raise PydanticCustomError("url", f"one of {_FORMS}")
        elif parts.scheme == "milvus" and not parts.path.endswith(".db"):
            raise PydanticCustomError("url", "a file that ends in .db: milvus:///PATH/NAME.db")
        if self.api_key is not None:
            register(key := self.api_key.get_secret_value())
            if not re.fullmatch("[!-~]+", key):
                raise PydanticCustomError("key", f"a key of ASCII characters without spaces in {KEY_VARIABLE}")
        return self

    @property
    def kind(self) -> StoreKind:
        """Which store."""
        return urlsplit(self.url.get_secret_value()).scheme.partition("+")[0]  # type: ignore[return-value]

    @property
    def file(self) -> Path | None:
        """The file or folder, for a store that is one."""
        parts = urlsplit(self.url.get_secret_value())
        local = self.kind == "faiss" or not parts.netloc
        return Path(unquote(parts.path)) if local else None

    @property
    def user(self) -> tuple[str, str] | None:
        """User and password of the URL."""
        parts = urlsplit(self.url.get_secret_value())
        return (unquote(parts.username), unquote(parts.password or "")) if parts.username else None

    @property
    def base(self) -> str:
        """The server's address for HTTP, without credentials."""
        parts = urlsplit(self.url.get_secret_value())
        scheme = "https" if parts.scheme.endswith("+https") else "http"
        host = parts.netloc.rpartition("@")[2]
        has_port = parts.port is not None or self.kind not in PORTS
        return f"{scheme}://{host if has_port else f'{host}:{PORTS[self.kind]}'}{parts.path.rstrip('/')}"

    @property
    def place(self) -> str:
        """The URL for messages: without credentials."""
        return mask_forms(self.url.get_secret_value())


def store_address(url: str, api_key: str | None = None) -> StoreAddress:
    """The store of a URL, as a command is given it. Raises ConfigError that shows no credentials."""
    secret = SecretStr(api_key) if api_key else None
    try:
        return StoreAddress(url=SecretUrl(url), api_key=secret)
    except ValidationError as err:
        wanted = "; ".join(str(one["msg"]) for one in err.errors())
        raise ConfigError(
            "store", mask_forms(url), f"{wanted} ({_FORMS})", f"see docs/rag.md; a key: {KEY_VARIABLE}"
        ) from None
    except ValueError:  # urlsplit: an unfinished `[` of an IPv6 address
        raise ConfigError("store", mask_forms(url), f"a URL: {_FORMS}", "see docs/rag.md") from None

"""What every section of the config is: a frozen model that knows its keys, and which of them decide what a stage makes;
and the types that several sections use."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Secret
from pydantic_core import PydanticCustomError

from slipway.system.redact import MASK, mask_forms, register_url


@dataclass(frozen=True)
class Birth:
    """See `born`."""

    value: Any


def born(value: Any) -> Birth:
    """Marks a field that was added after artifacts had been made: `loss_scale: Annotated[float, born(1.0)] = Field(0.5,
    ...)`.

    `value` is what the stage did before the field existed (for a section: its key document then, `{}` if all its own
    fields are born too). While the field equals it the field is left out of the key, and what was made before is
    reused; the default may be another and may change. Never change a birth value: keys of both meanings would be equal.
    """
    return Birth(value)


class Section(BaseModel):
    """A group of keys: unknown ones are errors, numbers are finite, values never change after parsing."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Refuse a field named `keys`: with one, `dict(section)` fails, by which Prefect reads a flow's parameters."""
        if "keys" in cls.model_fields:
            raise TypeError(f"{cls.__name__}.keys: dict() takes a section with this field for a mapping; name it anew")

    def key_document(self) -> dict[str, Any]:
        """What a stage's key holds of these values, as JSON: every field, but those that equal their birth value."""
        plain = self.model_dump(mode="json")
        document = {name: _keyed(getattr(self, name), plain[name]) for name in type(self).model_fields}
        births = {
            name: mark.value
            for name, field in type(self).model_fields.items()
            for mark in field.metadata
            if isinstance(mark, Birth)
        }
        return {name: value for name, value in document.items() if name not in births or value != births[name]}


def _keyed(value: Any, plain: Any) -> Any:
    """A field's value as JSON (`plain`), with the key documents of the sections in it, in lists and mappings too."""
    if isinstance(value, Section):
        return value.key_document()
    if isinstance(value, list | tuple):
        return [_keyed(one, below) for one, below in zip(value, plain, strict=True)]
    if isinstance(value, dict):
        return {key: _keyed(one, plain[key]) for key, one in value.items()}
    return plain


def _switch(value: object) -> object:
    """YAML reads `on` and `off` as booleans."""
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


Switch = Annotated[Literal["auto", "on", "off"], BeforeValidator(_switch)]


# For JSON schemas, so that a server refuses what it would store: a URL with a literal user or password, or a query that
# carries one. `${oc.env:NAME}` in their place is allowed.
_LITERAL_CREDENTIALS = r"://[^/@$\s]*[^/@$:\s][^/@$\s]*@|[?&](password|token|sig)=[^$]"
NO_CREDENTIALS = f"^(?![\\s\\S]*({_LITERAL_CREDENTIALS}))"


class SecretUrl(Secret[str]):
    """A URL whose credentials show nowhere: text, repr, dumps and JSON hold it with `***` in their place.

    `get_secret_value()` is the URL to connect to. Parsing one registers its password as a secret of the process.
    """

    def _display(self) -> str:
        return mask_forms(self.get_secret_value())

    def __str__(self) -> str:
        return self._display()

    def link(self) -> str:
        """The URL for a person's browser: without any credentials, not even masked."""
        parts = urlsplit(self.get_secret_value())
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def of_scheme(*schemes: str) -> Callable[[SecretUrl], SecretUrl]:
    """A validator: a URL of one of `schemes`, with a sound host and port; its credentials become known secrets."""

    def check(url: SecretUrl) -> SecretUrl:
        value = url.get_secret_value()
        scheme, separator, rest = value.partition("://")
        if not separator or scheme.split("+")[0] not in schemes or not rest:
            raise PydanticCustomError("url", f"a URL that starts with {', '.join(f'{s}://' for s in schemes)}")
        if MASK in value:
            raise PydanticCustomError("url", "the URL itself: this one was printed with its credentials masked")
        if scheme in ("http", "https"):
            check_authority(re.split("[/?#]", rest, maxsplit=1)[0].rpartition("@")[2])
        register_url(value)
        return url

    return check


_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


def check_host(host: str) -> str:
    """A host as sockets take it: an IPv4 or IPv6 address, or a DNS name. Raises ValueError-like for anything else."""
    try:
        ipaddress.ip_address(host)
        return host
    except ValueError:
        pass
    labels = host.removesuffix(".").split(".")
    numeric = all(label.isdigit() for label in labels)  # 127.0.0 or 300.1.1.1: a mistyped address, no name
    if numeric or len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise PydanticCustomError("host", "an IP address or a host name, without scheme, port or path")
    return host


def check_authority(authority: str) -> None:
    """`host`, `host:port` or `[v6]:port` of a URL; raises as `check_host` does, or for a port outside 1 to 65535."""
    match = re.fullmatch(r"\[([^\]]+)\](?::(.*))?|([^:]*)(?::(.*))?", authority)
    if match is None:
        raise PydanticCustomError("host", "`host` or `host:port` after the scheme")
    check_host(match[1] or match[3] or "")
    port = match[2] if match[2] is not None else match[4]
    if port is not None and not (port.isdigit() and 1 <= int(port) <= 65535):
        raise PydanticCustomError("port", "a port number from 1 to 65535 after the host")


Host = Annotated[str, AfterValidator(check_host)]
Port = Annotated[int, Field(ge=1, le=65535)]


def _no_file_in_the_way(path: str) -> str:
    """A folder, or a path where one can be made: nothing on the way down is a file."""
    folder = Path(path).expanduser()
    if "\0" in path or not path.strip():
        raise PydanticCustomError("folder", "the path of a folder")
    for part in (folder, *folder.parents):
        if part.is_dir():
            break
        if part.exists():
            raise PydanticCustomError("folder", f"a folder; {part} is a file")
    return path


def _no_folder(path: str) -> str:
    if "\0" in path or not path.strip() or Path(path).expanduser().is_dir():
        raise PydanticCustomError("file", "the path of a file, not of a folder")
    return path


Folder = Annotated[str, AfterValidator(_no_file_in_the_way)]
InputFile = Annotated[str, AfterValidator(_no_folder)]

"""The layer in front of a server's ASGI application that decides who may talk to it.

A request passes when all of this holds:

    Host             names this server: 127.0.0.1, localhost or [::1], and its port (else a web page that rebinds its
                     name to 127.0.0.1 could talk to it)
    Origin           absent, or this server itself (else any web page could send requests)
    Sec-Fetch-Site   absent, same-origin or none, or the request is a plain navigation (images and scripts of other
                     pages carry no Origin)
    Content-Type     not one that a web page may send anywhere without asking first: text/plain, a form, or none at all
    Authorization    HTTP Basic with this machine's credentials, but for the health page

Browsers ask for the credentials once and send them with every later request; the Host and Origin rules keep other pages
from using that. A websocket must pass Host and Origin; `websocket_login` says who checks its credentials.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from slipway.ops.credentials import Credentials

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HOSTS = ("127.0.0.1", "localhost", "[::1]")
# What a page may POST to another origin without a preflight request (Fetch standard, CORS-safelisted content types).
UNASKED_TYPES = ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data")


@dataclass(frozen=True)
class Refusal:
    """The answer to a request that does not pass: HTTP status and one line of plain text."""

    status: HTTPStatus
    reason: str


class Guard:
    """An ASGI application that hands on what passes the rules above and answers the rest itself."""

    def __init__(
        self, app: App, port: int, credentials: Credentials, health: str, *, websocket_login: bool = True
    ) -> None:
        """`health`: the one path that answers GET without credentials. `websocket_login`: websockets need the header
        `Authorization` too; False where the application checks the credentials in its own handshake."""
        self._app, self._health, self._websocket_login = app, health, websocket_login
        self._authorization = credentials.authorization.encode()
        self._hosts = {f"{host}:{port}" for host in HOSTS} | (set(HOSTS) if port == 80 else set())
        self._origins = {f"http://{host}" for host in self._hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection: http, websocket or the application's lifespan."""
        refusal = None if scope["type"] == "lifespan" else self.refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()  # the handshake; closing before it is accepted answers 403
            await send({"type": "websocket.close", "code": 1008, "reason": refusal.reason})
        else:
            await _answer(send, refusal)

    def refusal(self, scope: Scope) -> Refusal | None:
        """Why this connection may not pass, or None."""
        headers = _Headers(scope["headers"])
        websocket = scope["type"] == "websocket"
        if headers.only("host") not in self._hosts:
            return Refusal(HTTPStatus.FORBIDDEN, "this host name is not served here")
        if headers.has("origin") and headers.only("origin") not in self._origins:
            return Refusal(HTTPStatus.FORBIDDEN, "requests of other web pages are refused")
        if headers.only("sec-fetch-site") in ("cross-site", "same-site") and not _is_navigation(scope, headers):
            return Refusal(HTTPStatus.FORBIDDEN, "requests of other web pages are refused")
        if not websocket and scope["method"] == "POST" and _has_body(headers):
            kind = headers.only("content-type").partition(";")[0].strip().lower()
            if kind in UNASKED_TYPES:
                return Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"content type {kind or 'missing'}: send JSON")
        if websocket and not self._websocket_login:
            return None
        if not websocket and scope["method"] in ("GET", "HEAD") and scope["path"] == self._health:
            return None
        if not hmac.compare_digest(headers.only("authorization").encode("latin-1"), self._authorization):
            return Refusal(HTTPStatus.UNAUTHORIZED, "log in: `slipway status --login` shows the user and the password")
        return None


class _Headers:
    """The headers of a request; one that is sent twice counts as a value that nothing allows."""

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in raw:
            self._values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").strip())

    def has(self, name: str) -> bool:
        return name in self._values

    def only(self, name: str) -> str:
        """The value; empty when the header is absent, all values with a line break between when it is repeated."""
        return "\n".join(self._values.get(name, []))


def _is_navigation(scope: Scope, headers: _Headers) -> bool:
    """A person follows a link from another page: the other page cannot read the answer."""
    return scope["type"] == "http" and scope["method"] == "GET" and headers.only("sec-fetch-mode") == "navigate"


def _has_body(headers: _Headers) -> bool:
    return headers.has("transfer-encoding") or headers.only("content-length") not in ("", "0")


async def _answer(send: Send, refusal: Refusal) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    if refusal.status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b'Basic realm="slipway", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": int(refusal.status), "headers": headers})
    await send({"type": "http.response.body", "body": refusal.reason.encode() + b"\n"})

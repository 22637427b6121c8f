"""The guard's rules one by one, as ASGI messages; tests/lab/test_strangers.py proves them on the real servers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from slipway.ops.credentials import Credentials
from slipway.ops.guard import Guard

PAIR = Credentials("slipway", "päss")
PORT = 4200


async def _application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})


def ask(
    method: str = "GET",
    path: str = "/",
    *,
    kind: str = "http",
    websocket_login: bool = True,
    drop: str = "",
    **headers: str,
) -> list[dict[str, Any]]:
    """The messages that come back; a good Host and Authorization are sent unless given or dropped."""
    sent: list[dict[str, Any]] = []
    given = {"host": f"127.0.0.1:{PORT}", "authorization": PAIR.authorization}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    raw = [(k.encode(), v.encode("latin-1")) for k, v in given.items() if k != drop]

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    scope = {"type": kind, "path": path, "headers": raw, **({"method": method} if kind == "http" else {})}
    guard = Guard(_application, PORT, PAIR, "/api/health", websocket_login=websocket_login)
    asyncio.run(guard(scope, receive, send))
    return sent


def status(*args: Any, **kwargs: Any) -> int:
    return int(ask(*args, **kwargs)[0]["status"])


@pytest.mark.parametrize("host", [f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"[::1]:{PORT}"])
def test_our_own_pages_are_served(host: str) -> None:
    assert status(host=host) == 299
    assert status(host=host, origin=f"http://{host}", sec_fetch_site="same-origin") == 299
    assert status("POST", host=host, content_type="application/json; charset=utf-8", content_length="2") == 299


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        f"evil.example:{PORT}",
        "127.0.0.1",
        f"127.0.0.1:{PORT + 1}",
        f"127.0.0.1:{PORT}.evil.example",
        "",
    ],
)
def test_a_foreign_host_is_refused_even_for_health(host: str) -> None:
    assert status(host=host) == 403
    assert status("GET", "/api/health", host=host) == 403


def test_a_missing_or_repeated_host_is_refused() -> None:
    assert status(drop="host") == 403
    assert status(Host="evil.example") == 403  # beside the good one, in another case


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "", f"https://127.0.0.1:{PORT}", "http://127.0.0.1", "http://127.0.0.1:8888"],
)
def test_a_foreign_origin_is_refused(origin: str) -> None:
    assert status(origin=origin) == 403
    assert status("OPTIONS", origin=origin) == 403


def test_other_pages_may_link_to_us_but_not_embed_us() -> None:
    assert status(sec_fetch_site="cross-site", sec_fetch_mode="no-cors") == 403
    assert status(sec_fetch_site="same-site", sec_fetch_mode="cors") == 403  # another port of this host
    assert status(sec_fetch_site="cross-site", sec_fetch_mode="navigate") == 299
    assert status("POST", sec_fetch_site="cross-site", sec_fetch_mode="navigate") == 403


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "TEXT/PLAIN;charset=UTF-8", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"],
)
def test_types_that_a_page_may_post_unasked_are_refused(kind: str) -> None:
    assert status("POST", content_type=kind, content_length="2") == 415
    assert status("POST", content_type=kind, transfer_encoding="chunked") == 415


def test_a_body_without_a_type_is_refused_and_no_body_is_fine() -> None:
    assert status("POST", content_length="2") == 415
    assert status("POST", content_length="0") == 299
    assert status("PUT", content_type="text/plain", content_length="2") == 299  # an artifact; PUT is never sent unasked


@pytest.mark.parametrize(
    "authorization",
    ["", "Basic", "Basic c2xpcHdheTp3cm9uZw==", f"Bearer {PAIR.password}".encode().decode("latin-1"), "Basic \xff"],
)
def test_without_the_credentials_nothing_but_health_answers(authorization: str) -> None:
    refused = ask(authorization=authorization)
    assert refused[0]["status"] == 401
    assert (b"www-authenticate", b'Basic realm="slipway", charset="UTF-8"') in refused[0]["headers"]
    assert PAIR.password.encode() not in refused[1]["body"]
    assert status("GET", "/api/health", authorization=authorization) == 299
    for path in ("/api/health/", "/api/healthx", "/x/api/health", "/API/health", "/api/deployments/filter"):
        assert status("GET", path, authorization=authorization) == 401
    assert status("POST", "/api/health", authorization=authorization) == 401


def test_websockets_pass_host_origin_and_login() -> None:
    assert ask(kind="websocket")[0]["type"] == "websocket.accept"
    assert ask(kind="websocket", drop="authorization")[0]["type"] == "websocket.close"
    assert ask(kind="websocket", drop="authorization", websocket_login=False)[0]["type"] == "websocket.accept"
    for foreign in ({"host": "evil.example"}, {"origin": "http://evil.example"}):
        assert ask(kind="websocket", websocket_login=False, **foreign)[0]["type"] == "websocket.close"


def test_the_lifespan_reaches_the_application() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Guard(_application, PORT, PAIR, "/health")({"type": "lifespan"}, send, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 299

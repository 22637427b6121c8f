"""Is a service there? One health check, which reaches this machine directly whatever proxy the environment names."""

from __future__ import annotations

import base64
import http.client
import ipaddress
import urllib.error
import urllib.request
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit, urlunsplit

from slipway.errors import ResourceError
from slipway.system.redact import mask

OK = http.client.OK
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Nobody answered, or not in HTTP; ValueError: the URL is none.
NO_ANSWER = (OSError, http.client.HTTPException, ValueError)


def base_url(host: str, port: int) -> str:
    """`http://host:port`, an IPv6 address in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether connections to `host` stay on this machine; 0.0.0.0 and :: as addresses to connect to do."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def get_status(
    url: str, timeout_s: float = 5.0, headers: Mapping[str, str] | None = None, *, direct: bool = False
) -> int:
    """HTTP status of a GET, redirects not followed; user and password of the URL go into the Authorization header.

    Loopback, and any host with `direct`, is reached without a proxy; others through the environment's. Raises one of
    NO_ANSWER.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    request = urllib.request.Request(  # noqa: S310 (only http and https handlers are used below)
        urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])), headers=dict(headers or {})
    )
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_header("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{parts.scheme or 'no scheme'} is not http or https")
    proxies = urllib.request.ProxyHandler({} if direct or is_loopback(host) else None)
    try:
        with urllib.request.build_opener(proxies, _NoRedirect).open(request, timeout=timeout_s) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as err:
        err.close()
        return err.code


def is_healthy(
    url: str, timeout_s: float = 5.0, headers: Mapping[str, str] | None = None, *, direct: bool = False
) -> bool:
    """Whether a GET of `url` answers 200 within `timeout_s` seconds."""
    try:
        return get_status(url, timeout_s, headers, direct=direct) == OK
    except NO_ANSWER:
        return False


def require_healthy(name: str, base: str, next_step: str, headers: Mapping[str, str] | None = None) -> None:
    """Raises ResourceError, without the URL's password, unless `base`/health answers 200."""
    shown = mask(base)
    try:
        status = get_status(f"{base.rstrip('/')}/health", 10.0, headers)
    except NO_ANSWER as err:
        reason = getattr(err, "reason", err)
        raise ResourceError(name, f"{shown} does not answer ({reason})", "a running server", next_step) from err
    if status != OK:
        raise ResourceError(name, f"{shown}/health says {status}", "200", f"see what listens there; {next_step}")


def loopback_without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """`no_proxy` in both spellings, for a child whose libraries would send loopback requests to a proxy."""
    known = [environment.get("no_proxy", ""), environment.get("NO_PROXY", "")]
    names = list(dict.fromkeys(n.strip() for n in [*",".join(known).split(","), *LOOPBACK] if n.strip()))
    value = "*" if "*" in names else ",".join(names)
    return {"no_proxy": value, "NO_PROXY": value}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """None: the redirect itself is the answer. A login page behind it would look like health."""

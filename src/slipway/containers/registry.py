"""A container registry, read over the OCI distribution API: manifests and image configs, checked against their digests.

    GET /v2/NAME/manifests/TAG-or-digest    an index (one manifest per platform) or the manifest of one image
    GET /v2/NAME/blobs/DIGEST               the image's config: `architecture`, `os`

401 names how to be let in (RFC 6750): `Bearer realm="...",service="...",scope="..."` means fetch a token from that
realm, with the user's password for the registry when there is one, without otherwise; `Basic` means send that password.
Passwords are those of `docker login`. Loopback registries are spoken to over http, all others over https. Own client,
because podman's Docker API has no `distribution` endpoint and Docker's asks the engine, which may be a machine that is
switched off while digests are pinned.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from http.client import HTTPMessage
from typing import Any

from slipway.errors import ConfigError, ResourceError

INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
TIMEOUT_S = 30.0
LARGEST = 8 << 20  # manifests and configs are some kB
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_LOOPBACK = re.compile(r"^(localhost|127(\.\d+){3}|\[::1\])(:\d+)?$")


@dataclass(frozen=True)
class Document:
    """A manifest or config as the registry sent it."""

    media_type: str
    digest: str
    body: dict[str, Any]


class Registry:
    """One repository of one registry. Raises ResourceError when it cannot be asked, ConfigError for what it does not
    have.
    """

    def __init__(self, repository: str) -> None:
        self.repository = repository
        self.host, self.name = split(repository)
        self._scheme = "http" if _LOOPBACK.match(self.host) else "https"
        self._authorization: str | None = None

    def manifest(self, reference: str) -> Document:
        """The index or manifest of a tag or `sha256:...` digest."""
        headers, raw = self._get(f"manifests/{reference}", ", ".join(INDEXES + MANIFESTS), reference)
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        if reference.startswith("sha256:") and digest != reference:
            raise ResourceError(
                f"manifest of {self.repository}",
                digest,
                reference,
                "the registry or a proxy sent other bytes: try again",
            )
        body = self._json(raw)
        return Document(body.get("mediaType") or headers.get_content_type(), digest, body)

    def blob(self, digest: str) -> dict[str, Any]:
        """A JSON blob."""
        _, raw = self._get(f"blobs/{digest}", "*/*", digest)
        if f"sha256:{hashlib.sha256(raw).hexdigest()}" != digest:
            raise ResourceError(
                f"blob of {self.repository}",
                "other bytes",
                digest,
                "the registry or a proxy sent other bytes: try again",
            )
        return self._json(raw)

    def _json(self, raw: bytes) -> dict[str, Any]:
        try:
            return dict(json.loads(raw))
        except ValueError as err:
            raise ResourceError(
                f"answer of {self.host}", raw[:80], "JSON", "is this address a container registry?"
            ) from err

    def _get(self, path: str, accept: str, what: str) -> tuple[HTTPMessage, bytes]:
        url = f"{self._scheme}://{self.host}/v2/{self.name}/{path}"
        for allowed in (True, False):
            try:
                return self._open(url, accept)
            except urllib.error.HTTPError as err:
                challenge = err.headers.get("WWW-Authenticate", "")
                if err.code == 401 and allowed and challenge:
                    self._authorization = self._authorize(challenge)
                    continue
                raise self._refused(err.code, what) from err
            except OSError as err:
                raise self._silent(self.host, err) from err
        raise AssertionError("the second answer was returned or raised")

    def _open(self, url: str, accept: str) -> tuple[HTTPMessage, bytes]:
        request = urllib.request.Request(url, headers={"Accept": accept})  # noqa: S310 (http or https by construction)
        if self._authorization:
            request.add_unredirected_header("Authorization", self._authorization)  # blobs are redirected to other hosts
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            return answer.headers, answer.read(LARGEST)

    def _authorize(self, challenge: str) -> str:
        kind, _, rest = challenge.partition(" ")
        password = credentials(self.host)
        basic = f"Basic {base64.b64encode(':'.join(password).encode()).decode()}" if password else None
        if kind.lower() == "basic":
            if basic is None:
                raise self._refused(401, "anything")
            return basic
        fields = dict(_CHALLENGE.findall(rest))
        realm = urllib.parse.urlsplit(fields.get("realm", ""))
        if realm.scheme != "https" and not (realm.scheme == "http" and _LOOPBACK.match(realm.netloc)):
            raise ResourceError(
                f"registry {self.host}",
                f"sends to {fields.get('realm')} for a token",
                "an https address",
                "check the registry",
            )
        query = {"service": fields.get("service"), "scope": fields.get("scope", f"repository:{self.name}:pull")}
        parameters = urllib.parse.urlencode({k: v for k, v in query.items() if v})
        request = urllib.request.Request(f"{urllib.parse.urlunsplit(realm)}?{parameters}")  # noqa: S310 (checked above)
        if basic:
            request.add_unredirected_header("Authorization", basic)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
                token = self._json(answer.read(LARGEST))
        except urllib.error.HTTPError as err:
            raise self._refused(err.code, "a token") from err
        except OSError as err:
            raise self._silent(realm.netloc, err) from err
        return f"Bearer {token.get('token') or token.get('access_token')}"

    def _refused(self, code: int, what: str) -> ConfigError | ResourceError:
        thing = f"image {self.repository}"
        if code in (401, 403):
            return ResourceError(
                thing, f"{self.host} refuses ({code})", "read access", f"`docker login {self.host}`, then again"
            )
        if code == 404:
            return ConfigError(
                thing,
                f"the registry has no {what}",
                "a tag or digest it has",
                "correct conf/images.yaml, then `slipway pin`",
            )
        return ResourceError(f"registry {self.host}", f"answers {code}", "200", "try again later")

    def _silent(self, host: str, err: OSError) -> ResourceError:
        reason = getattr(err, "reason", err)
        return ResourceError(
            f"registry {host}",
            f"cannot be reached: {reason}",
            "an answer",
            "check the network and the name, then again",
        )


def split(repository: str) -> tuple[str, str]:
    """`nvcr.io/nvidia/x` -> its host and name; a name without a host is Docker Hub's."""
    first, _, rest = repository.partition("/")
    if rest and ("." in first or ":" in first or first == "localhost"):
        return (first, rest) if first != "docker.io" else split(rest)
    return "registry-1.docker.io", repository if rest else f"library/{repository}"


def credentials(host: str) -> tuple[str, str] | None:
    """User and password that `docker login` keeps for a registry, from its config or credential helper."""
    from docker import auth

    login = auth.load_config().resolve_authconfig("docker.io" if host == "registry-1.docker.io" else host)
    return (login["username"], login["password"]) if login and login.get("username") else None

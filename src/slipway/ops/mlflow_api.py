"""What commands ask of MLflow's registry over its REST API: which version an alias names, and to let it name another.

Plain HTTP, so that `slipway status` and `slipway rollback` import no MLflow. A tracking URI that is no server (a
database, a folder) is reached by the library only, which flows do.
"""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

from slipway.config.tracking import TrackingConfig
from slipway.errors import ResourceError
from slipway.ops.services import Services
from slipway.system.http import NO_ANSWER, is_loopback
from slipway.system.redact import mask

TIMEOUT_S = 5.0
MOST_BYTES = 4 << 20
_ABSENT = (400, 404)  # MLflow answers 400 for an alias that a registered model does not have


class MlflowApi:
    """The registry of one MLflow server. Every method raises ResourceError when it does not answer or refuses."""

    def __init__(self, base: str, headers: Mapping[str, str]) -> None:
        self._base, self._headers = base.rstrip("/"), dict(headers)

    def alias_digest(self, line: str, alias: str) -> str | None:
        """The engine digest of the version that an alias names; None when the model or the alias is not there, empty
        when the version has no digest."""
        answer = self._call("GET", "registered-models/alias", {"name": line, "alias": alias})
        return None if answer is None else _tags(answer.get("model_version")).get("digest", "")

    def version_of(self, line: str, digest: str) -> str:
        """The version of a registered model that has this engine digest; empty when there is none."""
        query = {"filter": f"name = '{line}' and tags.digest = '{digest}'", "max_results": "1"}
        answer = self._call("GET", "model-versions/search", query) or {}
        versions = answer.get("model_versions") or []
        return str(versions[0]["version"]) if versions and isinstance(versions[0], dict) else ""

    def set_alias(self, line: str, alias: str, version: str) -> None:
        """Let the alias name this version."""
        self._call("POST", "registered-models/alias", {"name": line, "alias": alias, "version": version})

    def _call(self, method: str, path: str, values: Mapping[str, str]) -> dict[str, Any] | None:
        """The answer's JSON object; None when what was asked for is not there."""
        url = f"{self._base}/api/2.0/mlflow/{path}"
        body = json.dumps(values).encode() if method == "POST" else None
        url += "" if body else f"?{urlencode(values)}"
        request = urllib.request.Request(  # noqa: S310 (`mlflow_api` lets http and https through)
            url, body, {**self._headers, "Content-Type": "application/json"}, method=method
        )
        proxies = urllib.request.ProxyHandler({} if is_loopback(urlsplit(url).hostname or "") else None)
        try:
            with urllib.request.build_opener(proxies).open(request, timeout=TIMEOUT_S) as answer:
                document = json.loads(answer.read(MOST_BYTES))
        except urllib.error.HTTPError as err:
            err.close()
            if method == "GET" and err.code in _ABSENT:
                return None
            raise self._failed(f"says {err.code}") from err
        except NO_ANSWER as err:
            raise self._failed(f"does not answer ({getattr(err, 'reason', err)})") from err
        if not isinstance(document, dict):
            raise self._failed("answers no JSON object")
        return document

    def _failed(self, what: str) -> ResourceError:
        return ResourceError("MLflow", mask(f"{self._base} {what}"), "a running server", "`make up`, or see its log")


def mlflow_api(tracking: TrackingConfig) -> MlflowApi | None:
    """The registry at tracking.uri, with this machine's login where it is this machine's server; None when the URI is
    no server."""
    uri = tracking.uri.get_secret_value()
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return None
    login = Services.here().credentials_for(uri)
    headers = {"Authorization": login.authorization} if login else {}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return MlflowApi(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), headers)


def _tags(version: Any) -> dict[str, str]:
    rows = version.get("tags") or [] if isinstance(version, dict) else []
    return {str(row.get("key")): str(row.get("value")) for row in rows if isinstance(row, dict)}

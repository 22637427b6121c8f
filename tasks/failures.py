"""What the world did to a flow, named: a file system that refuses, a Prefect server that went away or answers
nonsense."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect.exceptions import PrefectException

from slipway.errors import ResourceError
from slipway.system.files import as_resource_error
from slipway.system.redact import mask

REASON_CHARS = 400


@contextmanager
def failures_named() -> Iterator[None]:
    """Raise ResourceError for what the file system refused and for what Prefect's server or client said."""
    try:
        yield
    except (httpx.HTTPError, PrefectException) as err:
        reason = mask(f"{type(err).__name__}: {err}")[:REASON_CHARS]
        raise ResourceError("Prefect", reason, "a server that keeps answering", "`make up`, then run again") from err
    except OSError as err:
        if not err.filename:
            raise
        raise as_resource_error(err) from err

"""The MLflow library, imported once and late: the import takes seconds."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from slipway.errors import ResourceError
from slipway.system.redact import mask

if TYPE_CHECKING:
    from mlflow import MlflowClient as Client
else:
    Client = Any

# MLflow's own are 7 retries and 120 s a request: minutes a call, of which a run makes several while it ends.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
LAST_WORDS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
REFUSED = (401, 403, 408, 429)  # HTTP statuses below 500 that are the server's state and no mistake of ours
REASON_CHARS = 400


@functools.cache
def library() -> Any:
    """The module `mlflow`, told to send nothing home and to print nothing between our lines."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    import mlflow
    import mlflow.entities
    import mlflow.exceptions

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    return mlflow


def entities() -> Any:
    """The module `mlflow.entities`: metrics, params, tags, datasets, logged models."""
    return library().entities


@contextmanager
def failures_named(address: str) -> Iterator[None]:
    """Raise ResourceError, naming the address, when the server stops answering or answers that it failed.

    What MLflow refuses as a wrong request stays what it is: a mistake of ours.
    """
    import requests

    try:
        yield
    except (library().exceptions.MlflowException, requests.RequestException) as err:
        if not _is_of_the_server(err):
            raise
        reason = mask(" ".join(f"{type(err).__name__}: {err}".split()))[:REASON_CHARS]
        raise ResourceError(
            "MLflow",
            f"{address} failed during the run: {reason}",
            "a server that keeps answering",
            "`make up`, or mend the server at tracking.uri; then run again: finished stages are reused",
        ) from err


@contextmanager
def last_words() -> Iterator[None]:
    """The block tells MLflow how a run ended: asked once, for a few seconds, and dropped when the server does not
    answer, so that the error or the signal that ends the run stays what ends it."""
    import requests

    before = {name: os.environ.get(name) for name in LAST_WORDS}
    os.environ.update(LAST_WORDS)
    try:
        yield
    except (library().exceptions.MlflowException, requests.RequestException) as err:
        logging.getLogger(__name__).debug("MLflow was not told how the run ended: %s", type(err).__name__)
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _is_of_the_server(err: Exception) -> bool:
    """Whether it says something of the server's state. A connection that broke has the status 500 in MLflow's error."""
    if not isinstance(err, library().exceptions.MlflowException):
        return True
    status = err.get_http_status_code()
    return status >= 500 or status in REFUSED

"""The MLflow library, imported once and late: the import takes seconds."""

from __future__ import annotations

import functools
import logging
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient as Client
else:
    Client = Any


@functools.cache
def library() -> Any:
    """The module `mlflow`, told to send nothing home and to print nothing between our lines."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    import mlflow
    import mlflow.entities
    import mlflow.exceptions

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    return mlflow


def entities() -> Any:
    """The module `mlflow.entities`: metrics, params, tags, datasets, logged models."""
    return library().entities

"""One parent run a pipeline, one child run a stage.

Weights are external models, by uri and digest: MLflow gets no bytes of them. Metrics go in batches. A failed run stays,
FAILED, with its error.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from prefect.exceptions import Pause
from pydantic import BaseModel

from slipway.config.load import Config
from slipway.pipeline.ensure import Made
from slipway.pipeline.measurements import Figures
from slipway.store.artifacts import Adapter, Artifact, Checkpoint, Dataset, Engine, Quantized
from slipway.store.references import reference_to
from slipway.system.redact import mask
from slipway.system.throttle import Throttle
from tasks.health import require_tracking
from tasks.provenance import command_line, environment_digest, git_commit
from tasks.tracking.client import Client, entities, failures_named, last_words, library
from tasks.tracking.payload import flatten, numbers, small_files
from tasks.tracking.registry import external_model

FLUSH_EVERY_S = 5.0
WEIGHTS = (Checkpoint, Adapter, Quantized, Engine)
RUN_TAG = "slipway.run"
DIGEST_CHARS = 36  # MLflow's column for dataset digests


class Tracker:
    """The parent run. `parent` is its id in MLflow, `run_id` the store's, `url` MLflow's UI without a password."""

    def __init__(self, client: Client, config: Config, experiment: str, parent: str, run_id: str) -> None:
        self.client, self.config, self.experiment, self.parent = client, config, experiment, parent
        self.run_id = run_id
        self.models: dict[str, str] = {}  # artifact digest -> MLflow model id
        uri = config.tracking.uri
        self.url = uri.link() if uri.get_secret_value().startswith("http") else ""

    @contextmanager
    def stage(self, label: str, inputs: Mapping[str, Artifact | None], params: BaseModel) -> Iterator[StageRun]:
        """A child run; FINISHED when the block ends well, else FAILED (KILLED when interrupted) with the error."""
        tags = {"mlflow.parentRunId": self.parent, "slipway.stage": label, RUN_TAG: self.run_id}
        with failures_named(self.config.tracking.uri.link()):
            run = self.client.create_run(self.experiment, tags=tags, run_name=label)
            child = StageRun(self, run.info.run_id)
            child.params(flatten(params.model_dump(mode="json")))
            child.inputs(inputs)
            with _ended(self.client, child.run_id):
                yield child
                child.flush()

    def dataset(self, data: Dataset, raw: str, digest: str, revision: str | None) -> None:
        """The run's input, by the digest that DVC gives its source; `revision` is set where DVC versions it."""
        entity = entities().Dataset(
            Path(raw).stem,
            digest[:DIGEST_CHARS],
            "local",
            json.dumps({"uri": self.uri_of(data)}),
            profile=json.dumps(data.summary),
        )
        tags = {"mlflow.data.context": "training", "artifact": data.digest, "dvc": revision or "not versioned"}
        self.client.log_inputs(
            self.parent, [entities().DatasetInput(entity, [entities().InputTag(k, v) for k, v in tags.items()])]
        )
        self.tags({"slipway.data_digest": digest, "slipway.data_revision": revision or "not versioned"})

    def uri_of(self, artifact: Artifact) -> str:
        """How MLflow names an artifact: `<kind>/<key>` below the store, which may move; its path where it lies
        elsewhere."""
        return reference_to(artifact, Path(self.config.store.root))["uri"]

    def tags(self, tags: Mapping[str, str]) -> None:
        """Tags of the parent run, masked and cut to MLflow's 5000 characters."""
        self.client.log_batch(self.parent, tags=[entities().RunTag(k, mask(v)[:5000]) for k, v in tags.items()])

    def report(self, documents: Mapping[str, str], plots: Mapping[str, bytes], figures: Mapping[str, float]) -> None:
        """The documents and plots of the run, as files by name, and its headline figures."""
        now = int(time.time() * 1000)
        self.client.log_batch(self.parent, metrics=[entities().Metric(k, float(v), now, 0) for k, v in figures.items()])
        with TemporaryDirectory() as folder:
            for name, text in documents.items():
                Path(folder, name).write_text(mask(text), encoding="utf-8")
            for name, png in plots.items():
                Path(folder, name).write_bytes(png)
            self.client.log_artifacts(self.parent, folder, "report")

    def text(self, name: str, text: str) -> None:
        """A text file of the parent run."""
        self.client.log_text(self.parent, mask(text), name)

    def model_url(self, version: str) -> str:
        """The page of a registered version; empty without a server."""
        return f"{self.url}/#/models/{self.config.line}/versions/{version}" if self.url else ""

    def file_url(self, path: str) -> str:
        """The page of a file of the parent run; empty without a server."""
        return f"{self.run_url()}/artifacts/{path}" if self.url else ""

    def run_url(self) -> str:
        """The page of the parent run; empty without a server."""
        return f"{self.url}/#/experiments/{self.experiment}/runs/{self.parent}" if self.url else ""


class StageRun:
    """A child run: params at the start, metrics in batches, the artifact at the end."""

    def __init__(self, tracker: Tracker, run_id: str) -> None:
        self.tracker, self.run_id, self._metrics, self._throttle = tracker, run_id, list[Any](), Throttle(FLUSH_EVERY_S)

    def params(self, params: Mapping[str, str]) -> None:
        """Log params, masked and cut to MLflow's 6000 characters."""
        self.tracker.client.log_batch(
            self.run_id, params=[entities().Param(k, mask(v)[:6000]) for k, v in params.items()]
        )

    def inputs(self, inputs: Mapping[str, Artifact | None]) -> None:
        """Link the models of this run that the stage reads."""
        known = [self.tracker.models[a.digest] for a in inputs.values() if a and a.digest in self.tracker.models]
        if known:
            self.tracker.client.log_inputs(self.run_id, models=[entities().LoggedModelInput(m) for m in known])

    def metric(self, event: Mapping[str, Any]) -> None:
        """Keep one step's figures for the next batch."""
        stamp, step = int(event["t"] * 1000), int(event["step"])
        self._metrics += [
            entities().Metric(k, float(v), stamp, step) for k, v in event.items() if k not in ("t", "event", "step")
        ]
        if self._throttle.due() or len(self._metrics) > 500:
            self.flush()

    def flush(self) -> None:
        """Send the figures that were kept."""
        for start in range(0, len(self._metrics), 900):  # MLflow takes 1000 a call
            self.tracker.client.log_batch(self.run_id, metrics=self._metrics[start : start + 900])
        self._metrics = []

    def made(self, made: Made, took: Mapping[str, Figures]) -> None:
        """The artifact: figures, small files, and weights as an external model by reference. `took`: what it was
        `predicted` to take, and what was `measured`."""
        artifact, now = made.artifact, int(time.time() * 1000)
        figures = {"seconds": made.seconds, "peak_rss_bytes": made.peak_rss, **numbers(artifact.summary)}
        figures |= {f"{side}.{name}": value for side, row in took.items() for name, value in asdict(row).items()}
        tags = {
            "slipway.reused": str(made.reused).lower(),
            "slipway.why": made.why,
            "slipway.digest": artifact.digest,
            "slipway.uri": self.tracker.uri_of(artifact),
        }
        self.tracker.client.log_batch(
            self.run_id,
            metrics=[entities().Metric(k, v, now, 0) for k, v in figures.items()],
            tags=[entities().RunTag(k, mask(v)) for k, v in tags.items()],
        )
        if isinstance(artifact, WEIGHTS):
            self._model(artifact)
        for file in small_files(artifact):
            self.tracker.client.log_artifact(self.run_id, str(file))

    def _model(self, artifact: Artifact) -> None:
        model_id = external_model(self.tracker, artifact, self.run_id)
        self.tracker.models[artifact.digest] = model_id
        self.tracker.client.log_outputs(self.run_id, [entities().LoggedModelOutput(model_id, 0)])


@contextmanager
def pipeline_run(config: Config, run_id: str) -> Iterator[Tracker]:
    """Open the parent run with system metrics, provenance, the resolved config and the command line.

    `run_id`: the store's id of this run, a tag of every MLflow run that it opens. Raises ResourceError before any work
    when MLflow does not answer.
    """
    require_tracking(config.tracking)
    mlflow = library()
    mlflow.set_tracking_uri(config.tracking.uri.get_secret_value())
    with failures_named(config.tracking.uri.link()):
        experiment = existing_experiment(mlflow.MlflowClient(), config.tracking.experiment)
        with _tracked(config, experiment, run_id) as tracker:
            yield tracker


@contextmanager
def _tracked(config: Config, experiment: str, run_id: str) -> Iterator[Tracker]:
    """The parent run, with what is known at its start."""
    mlflow = library()
    with _parent(experiment, config.line, run_id) as parent:
        tracker = Tracker(mlflow.MlflowClient(), config, experiment, parent, run_id)
        resolved = config.model_dump(mode="json")
        mlflow.log_params({k: mask(v)[:6000] for k, v in flatten(resolved).items()})
        tracker.tags({"slipway.git_commit": git_commit(), "slipway.environment": environment_digest()})
        tracker.text("config.yaml", mask(yaml.safe_dump(resolved, sort_keys=False)))
        tracker.text("command.txt", command_line() + "\n")
        with _error_kept(tracker.client, tracker.parent):
            yield tracker


@contextmanager
def _parent(experiment: str, name: str, run_id: str) -> Iterator[str]:
    """MLflow's active run for the time of the block; FINISHED, also when it was suspended to ask a person, FAILED, or
    KILLED when it was interrupted."""
    mlflow = library()
    tags = {RUN_TAG: run_id}
    parent = mlflow.start_run(experiment_id=experiment, run_name=name, log_system_metrics=True, tags=tags)
    try:
        yield parent.info.run_id
    except BaseException as err:
        with last_words():
            mlflow.end_run(_status(err))
        raise
    mlflow.end_run("FINISHED")


def _status(err: BaseException) -> str:
    """MLflow's word for how a run ended that this left."""
    if isinstance(err, Pause):
        return "FINISHED"
    return "FAILED" if isinstance(err, Exception) else "KILLED"


def existing_experiment(client: Client, name: str) -> str:
    """The id of the experiment: as it is, restored when somebody deleted it in the UI, else made."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return str(client.create_experiment(name))
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def close_killed(experiment: str, run_id: str) -> list[str]:
    """End as KILLED what a run of this store, by its id, left RUNNING; the MLflow ids that were ended."""
    client = library().MlflowClient()
    where = client.get_experiment_by_name(experiment)
    if where is None or where.lifecycle_stage == "deleted":
        return []
    query = f"tags.`{RUN_TAG}` = '{run_id}' and attributes.status = 'RUNNING'"
    open_runs = [run.info.run_id for run in client.search_runs([where.experiment_id], query)]
    for each in open_runs:
        client.set_terminated(each, "KILLED")
    return open_runs


@contextmanager
def _ended(client: Client, run_id: str) -> Iterator[None]:
    with _error_kept(client, run_id):
        try:
            yield
        except BaseException as err:
            with last_words():
                client.set_terminated(run_id, _status(err))
            raise
        client.set_terminated(run_id, "FINISHED")


@contextmanager
def _error_kept(client: Client, run_id: str) -> Iterator[None]:
    try:
        yield
    except Pause:
        client.set_tag(run_id, "slipway.suspended", "a person is asked; the resumed flow run has a run of its own")
        raise
    except BaseException as err:
        with last_words():
            client.set_tag(run_id, "slipway.error", mask(f"{type(err).__name__}: {err}")[:5000])
            client.log_text(run_id, mask(f"{type(err).__name__}: {err}\n"), "error.txt")
        raise

"""A real MLflow server that goes away, or only fails, in the middle of a run: one error, and a run that ends soon."""

from __future__ import annotations

import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flows.stopping import Stopped, stopped_by_signals
from slipway.config.load import Config
from slipway.deployment.pending_alias import pending_aliases, write_down
from slipway.errors import ResourceError, StageError
from slipway.system.http import is_healthy
from slipway.system.ports import any_port, is_free
from tasks.tracking.client import library
from tasks.tracking.registry import catch_up, follow_pointer
from tasks.tracking.run import Tracker, pipeline_run

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # MLflow's own, about its dependencies
]


@dataclass
class Server:
    """A running MLflow server over the database in `folder`, and the config that names it."""

    folder: Path
    port: int
    config: Config
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Start it, again at the same address with what it knew, and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder}/ml.db"]
        command += ["--artifacts-destination", str(self.folder / "a")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)
        while not is_healthy(f"http://127.0.0.1:{self.port}/health", 2):
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)

    def end(self) -> None:
        """Kill the server with its workers."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            while not is_free("127.0.0.1", self.port):  # its worker, no child of ours, ends a moment later
                time.sleep(0.05)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database of MLflow's present schema: making one takes longer than a server's start."""
    file = tmp_path_factory.mktemp("mlflow") / "ml.db"
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{file}"]
    subprocess.run(command, check=True, capture_output=True)
    return file


@pytest.fixture
def server(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    shutil.copyfile(database, tmp_path / "ml.db")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the time that a lost call takes
    port = any_port("127.0.0.1")
    uri = f"http://127.0.0.1:{port}"
    settings = {"tracking": {"uri": uri, "experiment": "test"}, "store": {"root": str(tmp_path / "store")}}
    here = Server(tmp_path, port, Config.model_validate(settings))
    try:
        here.start()
        yield here
    finally:
        here.end()
        library().set_tracking_uri(None)


class Failing(http.server.BaseHTTPRequestHandler):
    """Answers every request with 500."""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = do_PATCH = do_PUT = answer

    def log_message(self, *_: object) -> None:
        """Nothing on the test's output."""


@contextmanager
def failing(port: int) -> Iterator[None]:
    """A server on `port` that only fails."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Failing) as failing_server:
        threading.Thread(target=failing_server.serve_forever, daemon=True).start()
        yield
        failing_server.shutdown()


def lose(tracker: Tracker, server: Server) -> None:
    """A stage during which the server ends."""
    with tracker.stage("train", {}, server.config.train) as stage:
        server.end()
        stage.metric({"t": 1.0, "event": "metric", "step": 1, "loss": 0.5})


def test_a_server_that_goes_away_is_one_error_with_its_address(server: Server) -> None:
    address = f"http://127.0.0.1:{server.port}"
    message = rf"MLflow: {address} failed during the run: .*run again"
    with pytest.raises(ResourceError, match=message) as caught, pipeline_run(server.config, "a") as tracker:
        lose(tracker, server)
    assert caught.value.exit_code == 4


def test_a_server_that_answers_500_is_one_error_with_its_address(server: Server) -> None:
    message = rf"MLflow: http://127.0.0.1:{server.port} failed .*500"
    with pytest.raises(ResourceError, match=message), pipeline_run(server.config, "a") as tracker:
        server.end()
        with failing(server.port), tracker.stage("train", {}, server.config.train):
            pass


def test_what_ends_a_run_is_told_although_the_server_is_gone(server: Server) -> None:
    """The stage's own error, and the signal with its exit code, are not replaced by MLflow's."""
    with (
        pytest.raises(StageError, match="train"),
        pipeline_run(server.config, "a") as tracker,
        tracker.stage("train", {}, server.config.train),
    ):
        server.end()
        raise StageError("stage train", "died", "an artifact", "read its log")


def test_a_signal_ends_a_run_although_the_server_is_gone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "7")  # MLflow's own number: minutes, were it asked so often
    with (
        pytest.raises(Stopped),
        stopped_by_signals(),
        pipeline_run(server.config, "a") as tracker,
        tracker.stage("train", {}, server.config.train),
    ):
        server.end()
        os.kill(os.getpid(), signal.SIGTERM)


def test_an_alias_that_waited_for_mlflow_is_set_when_it_is_back(server: Server) -> None:
    """Two switches while it is away: the alias names what serves, not what served between; of an engine that it knows
    no version of nothing is claimed."""
    config, store = server.config, Path(server.config.store.root)
    line, engines = config.line, ["a" * 64, "b" * 64, "c" * 64]
    uri = config.tracking.uri.get_secret_value()
    library().set_tracking_uri(uri)
    client, model = library().MlflowClient(uri), library().create_external_model(name="engine", model_type="engine")
    client.create_registered_model(line)
    for engine in engines:
        client.create_model_version(line, f"models:/{model.model_id}", tags={"digest": engine}, model_id=model.model_id)
    assert follow_pointer(config, engines[0]) == "1"
    server.end()
    assert follow_pointer(config, engines[1]) == follow_pointer(config, engines[2]) == ""
    write_down(store, "elsewhere", line, "d" * 64)
    with failing(server.port), pytest.raises(ResourceError):
        catch_up(config)
    assert len(pending_aliases(store)) == 2, "nothing is forgotten while it only fails"
    server.start()
    assert [(row.target, version) for row, version in catch_up(config)] == [("local", "3"), ("elsewhere", "")]
    assert str(client.get_model_version_by_alias(line, "local-champion").version) == "3"
    assert pending_aliases(store) == [] == catch_up(config)
    client.delete_registered_model(line)  # somebody cleans up there: what serves is not MLflow's to say
    assert follow_pointer(config, engines[0]) == "" and pending_aliases(store) == []

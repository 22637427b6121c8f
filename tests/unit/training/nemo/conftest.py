"""A training's files: a pico model kept by reference, forty rows, any runner."""

import pytest

from slipway.config.model import ModelConfig
from slipway.config.target import TargetConfig
from slipway.pipeline.workspace import Workspace
from slipway.stages.fetch import fetch
from slipway.store.artifacts import Checkpoint
from slipway.store.store import Store
from slipway.system.progress import Progress
from slipway.training.nemo.job import JobFiles
from tests.support.nemo import dataset_of, pico_params
from tests.support.pico import pico_model


@pytest.fixture
def files(tmp_path):
    """Makes the files of a training on a target, of a pico model that is kept by reference and forty rows."""
    store = Store(tmp_path / "store")
    model = pico_model(tmp_path / "blobs", layers=2)
    (tmp_path / "hub").mkdir()
    for file in model.iterdir():
        (tmp_path / "hub" / file.name).symlink_to(f"../blobs/{file.name}")  # as a hub's cache keeps them
    params = ModelConfig(name="pico", source="directory", directory=str(tmp_path / "hub"))
    with store.create(Checkpoint, "base", {}) as out, Progress() as progress:
        fetch(params, Workspace(out, tmp_path, tmp_path, progress))
    base, data = store.find(Checkpoint, "base"), dataset_of(store)

    def make(runner=None, gpus=0, **train):
        target = TargetConfig(
            name="t", gpus=gpus, gpu_memory_gb=80 if gpus else None, **({"runner": runner} if runner else {})
        )
        return JobFiles(
            base, data, tmp_path / "train_nemo-abc" / "nemo", pico_params(**train).model_copy(update={"target": target})
        )

    return make

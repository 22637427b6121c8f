"""What the tests of engines in a lab share: a bundle made by its stage, a few rows to answer, and their answers."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from slipway.config.image import ImageConfig
from slipway.config.store import StoreConfig
from slipway.config.target import SlurmConfig, TargetConfig
from slipway.engines.chat_client import ChatClient
from slipway.engines.serving import Service, serving
from slipway.pipeline.workspace import Workspace
from slipway.runners.slurm_script import container_uri
from slipway.stages.engine import EngineParams, engine
from slipway.store.artifacts import Artifact, Checkpoint, Dataset, Engine
from slipway.store.references import reference_to
from slipway.store.store import Store, load
from slipway.system.progress import Progress
from tests.lab.engine_lab import EngineImages
from tests.lab.slurm_lab import ROOT, SlurmLab

CACHE = Path(StoreConfig().cache).expanduser()
ASKED = [f"turn on the light in room {number}" for number in range(4)]
ANSWER_TOKENS = 12
SMALL: dict[str, Any] = {"context": 256, "slots": 2, "start_s": 120, "boots": {"cold": 1, "warm": 1}}

A = TypeVar("A", bound=Artifact)


def put(store: Store, cls: type[A], key: str, fill: Callable[[Path], object]) -> A:
    """An artifact whose files `fill` writes."""
    with store.create(cls, key, {}) as out:
        fill(out)
    return load(cls, store.dir(cls.kind, key))


def workspace(store: Store, out: Path, name: str) -> Workspace:
    """A stage's workspace in the store."""
    work = store.root / "work" / name
    work.mkdir(parents=True, exist_ok=True)
    return Workspace(out, work, CACHE, Progress())


def checkpoint_of(store: Store, images: EngineImages) -> Checkpoint:
    """The model that the images serve, as an artifact."""
    return put(store, Checkpoint, "base", lambda out: shutil.copytree(images.model, out, dirs_exist_ok=True))


def bundle_of(store: Store, checkpoint: Checkpoint, params: EngineParams, name: str) -> Engine:
    """What the stage `engine` makes: planned, built, served once and asked."""
    inputs = {"checkpoint": reference_to(checkpoint, store.root)}
    with store.create(Engine, name, {"stage": "engine", "inputs": inputs}) as out:
        engine(checkpoint, params, workspace(store, out, name))
    return load(Engine, store.dir(Engine.kind, name))


def rows_of(store: Store) -> Dataset:
    """A test set of ASKED."""
    rows = [
        {
            "id": f"r{number}",
            "label": "On",
            "template": "t",
            "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": '{"intent":"On"}'}],
        }
        for number, asked in enumerate(ASKED)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    files = {"train.jsonl": text, "test.jsonl": text, "summary.json": json.dumps({"label_key": "intent"})}
    return put(store, Dataset, "data", lambda out: [(out / name).write_text(files[name]) for name in files])


def answers(service: Service) -> list[str]:
    """Greedy answers to ASKED, one at a time."""
    with serving(service) as endpoint, ChatClient(endpoint.url, endpoint.model, 60) as client:
        return [client.ask([{"role": "user", "content": asked}], ANSWER_TOKENS).text for asked in ASKED]


def slurm_target() -> TargetConfig:
    """The lab's Slurm as the machine that serves, planned as one H100."""
    return TargetConfig(
        name="lab-slurm",
        gpus=1,
        gpu_memory_gb=80,
        compute_capability="sm_90",
        formats=["fp8"],
        runner=SlurmConfig(kind="slurm", poll_s=0.25, lease_s=6, patience_s=60),
    )


def write_slurm_image(lab: SlurmLab, images: EngineImages, image: ImageConfig, **environment: str) -> None:
    """The image in the form of the lab's Slurm: folders that make up its root, and its environment."""
    uri = container_uri(image, images.lab.arch)
    folder = lab.folder / "images" / uri.translate(str.maketrans("/#:", "+++"))
    folder.mkdir(parents=True, exist_ok=True)
    packages = str(Path(yaml.__file__).parents[1])  # of this environment, or of one that stands behind it
    binds = dict.fromkeys(place for place in [*ROOT, packages, str(images.folder)] if Path(place).exists())
    places = [*binds, f"{images.folder}/app:/app"]  # where TensorRT-LLM's images have their examples
    (folder / "binds").write_text("".join(f"{place}\n" for place in places))
    line = "1.2" if image.tag.endswith("-1.2") else "main"
    path = os.pathsep.join([str(images.folder / "bin"), str(Path(sys.executable).parent), "/usr/bin", "/bin"])
    stated = [str(images.folder / "packages" / name) for name in ("all", line)]
    lines = {"LAB_TRTLLM_LINE": line, "PATH": path, "PYTHONPATH": os.pathsep.join([*stated, packages]), **environment}
    (folder / "environment").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))

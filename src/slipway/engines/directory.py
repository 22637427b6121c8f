"""Any directory served as it is, without a pipeline: a bundle by its own plan, a model by a bundle made of it.

ROOT/<key>/bundle       serve.json last: its presence means complete; made once for a model, its settings and target
ROOT/<key>/server-N     the folder of the N-th server of it at a time

All of ROOT takes `engine.cache_gb` at most: what was served longest ago goes first, never what serves (`served`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from slipway.config.engine import EngineConfig
from slipway.config.image import ImageConfig
from slipway.config.target import LocalRunConfig, TargetConfig
from slipway.engines import served
from slipway.engines.bundle import MODEL, SERVE, read_plan
from slipway.engines.drivers import driver_for
from slipway.engines.serving import Service
from slipway.errors import ConfigError, ResourceError
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Checkpoint
from slipway.system.files import canonical, sha256_bytes, write_atomic
from slipway.system.locks import FOREVER, locked
from slipway.system.progress import Progress

SERVERS = 100


@dataclass(frozen=True)
class Machinery:
    """What serves a directory: settings of the engine, the machine, its image, and folders of this machine."""

    params: EngineConfig
    target: TargetConfig
    image: ImageConfig | None
    root: Path
    cache: Path
    port: int | None = None


@contextmanager
def service_for(path: Path, machinery: Machinery, progress: Progress) -> Iterator[Service]:
    """The service of an engine bundle or of a model directory, with a folder that no other server uses meanwhile.

    Raises ConfigError for a directory that is neither and for a port of a machine that chooses its own, and what the
    engine's driver raises.
    """
    local = isinstance(machinery.target.runner, LocalRunConfig)
    if machinery.port is not None and not local:
        raise ConfigError("--port", machinery.port, "none: the target's machine chooses one", "leave it out")
    with ExitStack() as held:
        is_bundle = (path / SERVE).is_file()
        name = sha256_bytes(str(path.resolve()).encode())[:12] if is_bundle else _key(path, machinery)
        home = machinery.root / name
        with served.room(machinery.root):
            work = _free_folder(home, held)
            served.mark(home, path)
        bundle = path if is_bundle else home / "bundle"
        model = None if is_bundle else _made(path, bundle, machinery, progress)
        plan = read_plan(bundle, here=local)
        _make_room(machinery, home, progress)
        yield Service(bundle, plan, machinery.target, work, model, machinery.port)


def _make_room(machinery: Machinery, home: Path, progress: Progress) -> None:
    limit = machinery.params.cache_gb
    with served.room(machinery.root):
        gone = served.make_room(machinery.root, int(limit * 1e9), keep=home)
    for one in gone:
        what = f"{one.home.name} of {one.directory or 'an unknown directory'}"
        progress.note(f"removed {what}, {one.nbytes / 1e9:.2f} GB: engine.cache_gb is {limit:g}")


def _key(path: Path, machinery: Machinery) -> str:
    """Of the model's files by name, size and time, and of what plans the server."""
    if not (path / "config.json").is_file():
        raise ConfigError(
            f"directory {path}",
            f"neither {SERVE} nor config.json" if path.is_dir() else "no directory",
            "an engine bundle, or a model directory (config.json and safetensors)",
            "name the folder of an engine of the store, or of a model",
        )
    files = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(path.iterdir())]
    target = machinery.target.model_dump(mode="json", exclude={"runner"})
    image = machinery.image.model_dump(mode="json") if machinery.image else None
    document = [str(path.resolve()), files, machinery.params.key_document(), target, image]
    return sha256_bytes(canonical(document))[:12]


def _made(path: Path, bundle: Path, machinery: Machinery, progress: Progress) -> Path:
    """Make the bundle unless it is there; the checkpoint that its server loads."""
    checkpoint = Checkpoint(uri=str(path.resolve()), digest="")
    with locked(bundle.parent / ".lock", FOREVER, f"build of {bundle}"):
        if not (bundle / SERVE).is_file():
            shutil.rmtree(bundle, ignore_errors=True)
            driver = driver_for(machinery.params.kind)
            plan = driver.plan(checkpoint.path, machinery.params, machinery.target, machinery.image)
            for note in plan.notes:
                progress.note(note)
            bundle.mkdir(parents=True)
            (bundle.parent / "work").mkdir(exist_ok=True)
            space = Workspace(bundle, bundle.parent / "work", machinery.cache, progress)
            plan = driver.build(checkpoint, plan, machinery.params, space, machinery.target)
            write_atomic(bundle / SERVE, plan.model_dump_json(indent=1) + "\n")
    return bundle / MODEL if (bundle / MODEL).is_dir() else checkpoint.path


def _free_folder(home: Path, held: ExitStack) -> Path:
    """A folder that no other server uses, held for as long as `held` is open: one that a killed server left is the
    first to be taken, so that its server is adopted."""
    for number in range(SERVERS):
        work = home / f"server-{number}"
        try:
            held.enter_context(locked(work / ".lock", 0.0, f"slipway serve in {work}"))
        except ResourceError as err:
            if number + 1 == SERVERS or "busy" not in str(err.value):
                raise
            continue
        return work
    raise ResourceError(f"servers in {home}", SERVERS, "fewer", "stop some of them")

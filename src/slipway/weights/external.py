"""Checkpoints that point at a user's model directory instead of copying it, checked before use.

No torch: orchestrators import this."""

from __future__ import annotations

from pathlib import Path

from slipway.config.model import ModelConfig
from slipway.errors import CheckpointError
from slipway.store.artifacts import MANIFEST
from slipway.store.links import PLACE, place_of
from slipway.system.files import canonical, sha256_bytes, sha256_file
from slipway.system.json_files import read_json

SOURCE = "source.json"
_FETCH = "run the pipeline again: fetch notices the change and makes the checkpoint anew"


def absolute(params: ModelConfig) -> ModelConfig:
    """`params` with `directory` absolute: a stage process runs in another folder than the one who named it."""
    if params.directory is None:
        return params
    return params.model_copy(update={"directory": str(Path(params.directory).expanduser().resolve())})


def fetch_extra(params: ModelConfig, store: Path) -> dict[str, str]:
    """What the key of stage `fetch` must know besides its params: where the user's files are, seen from the folder that
    holds the store, and their names, sizes and times."""
    if params.source != "directory" or params.directory is None:
        return {}
    root = Path(params.directory).expanduser()
    files = sorted(p for p in root.iterdir() if p.is_file()) if root.is_dir() else []
    listed = [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in files]
    return {"directory": sha256_bytes(canonical(listed)), PLACE: place_of(root, store)}


def check_reference(path: Path) -> None:
    """Raise CheckpointError when a shard that a reference points to has other bytes than when it was fetched.

    A file of the right size that has not been touched since the manifest was sealed is taken as unchanged; a touched
    one is hashed again.
    """
    if not (path / SOURCE).exists():
        return
    doc = read_json(path / SOURCE, "checkpoint by reference", "`slipway run`")
    sealed = (path / MANIFEST).stat().st_mtime_ns
    for want in doc["files"]:
        file = path / want["path"]
        file = file.readlink() if file.is_symlink() else file
        if not file.is_file():
            raise CheckpointError(f"shard {file}", "missing", "the file that was fetched", _FETCH)
        stat = file.stat()
        if stat.st_size != want["size"]:
            raise CheckpointError(f"shard {file}", f"{stat.st_size} bytes", f"{want['size']} bytes", _FETCH)
        if max(stat.st_mtime_ns, stat.st_ctime_ns) > sealed and sha256_file(file) != want["sha256"]:
            raise CheckpointError(
                f"shard {file}", "other bytes than when it was fetched", f"sha256 {want['sha256']}", _FETCH
            )

"""Which files hold a model directory's weights: those that transformers 5.23 reads.

In its order: the file that `transformers_weights` of config.json names, `model.safetensors`, the index
`model.safetensors.index.json`. Of an indexed checkpoint transformers reads whole files, also what the index leaves out.
After those it reads pickled `pytorch_model.bin`, and with `variant=` files such as `model.fp16.safetensors`: here both
are refused by name.
"""

from __future__ import annotations

from pathlib import Path

from slipway.errors import CheckpointError
from slipway.weights.model_config import read_config
from slipway.weights.shard_header import read_index

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_CONVERT = "load it with transformers and save it again: save_pretrained writes safetensors"


def weights_file(directory: Path) -> Path:
    """The safetensors file, or the index of several, that is the model. Raises CheckpointError when there is none."""
    named = _named(directory)
    for name in (named,) if named else (SINGLE, INDEX):
        if (directory / name).is_file() or (directory / name).is_symlink():
            return directory / name
    raise CheckpointError(
        f"model directory {directory}", _instead(directory, named), named or f"{SINGLE} or {INDEX}", _CONVERT
    )


def shard_files(file: Path) -> list[str]:
    """Names of the safetensors files of a model, by its one file or its index. Raises CheckpointError."""
    return [file.name] if file.suffix == ".safetensors" else sorted(set(read_index(file).values()))


def _named(directory: Path) -> str | None:
    """The file that config.json names, if it does; a directory of tensors alone has no config."""
    if not (directory / "config.json").is_file():
        return None
    name = read_config(directory).get("transformers_weights")
    if name is None:
        return None
    if not isinstance(name, str) or Path(name).name != name or not name.endswith((".safetensors", ".index.json")):
        raise CheckpointError(
            f"transformers_weights of {directory / 'config.json'}",
            f"{name!r}"[:200],
            "the name of a safetensors file or index in the same directory",
            "mend config.json",
        )
    return name


def _instead(directory: Path, named: str | None) -> str:
    """What is there instead of weights that can be read."""
    if named:
        return f"no {named}, which its config names"
    others = sorted(path.name for path in directory.glob("*.safetensors"))
    pickled = sorted(path.name for path in directory.glob("*.bin"))
    if others:
        return f"no safetensors of the model's name, but {', '.join(others[:3])}"
    return f"no safetensors, but {', '.join(pickled[:3])}" if pickled else "no safetensors"

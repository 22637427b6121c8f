"""An adapter's tensors: which file holds them, and what each is by its name.

    base_model.model.<module>.lora_A.weight                  PEFT, NeMo AutoModel, Unsloth
    [module.|_orig_mod.]<module>.lora_A.<adapter>.weight     the trainer's state, as axolotl and FSDP scripts save it

`adapter_model.safetensors` is read before `adapter_model.bin`, as PEFT does. A pickle is loaded with `weights_only`:
it can hold tensors, and runs no code.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch

from slipway.errors import AdapterError, CheckpointError
from slipway.weights.adapter_config import REFIT
from slipway.weights.computed import InMemory
from slipway.weights.shards import Shards, StoredTensors

WEIGHTS, PICKLED = "adapter_model.safetensors", "adapter_model.bin"
Role = Literal["A", "B", "bias_B", "embedding_A", "embedding_B", "magnitude", "tokens", "whole"]
_PREFIX = re.compile(r"(?:base_model\.model\.)?")
# what wrappers put between the modules of a model: DistributedDataParallel, torch.compile, FSDP, checkpointing
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.|^module\.")
_ADAPTER = r"(?:\.(?P<adapter>(?!weight$|bias$)[^.]+))?"
_FORMS: tuple[tuple[re.Pattern[str], Role], ...] = (
    (re.compile(rf"(?P<module>.+)\.lora_A{_ADAPTER}\.weight"), "A"),
    (re.compile(rf"(?P<module>.+)\.lora_B{_ADAPTER}\.weight"), "B"),
    (re.compile(rf"(?P<module>.+)\.lora_B{_ADAPTER}\.bias"), "bias_B"),
    (re.compile(rf"(?P<module>.+)\.lora_embedding_A{_ADAPTER}"), "embedding_A"),
    (re.compile(rf"(?P<module>.+)\.lora_embedding_B{_ADAPTER}"), "embedding_B"),
    (re.compile(rf"(?P<module>.+)\.lora_magnitude_vector{_ADAPTER}(?:\.weight)?"), "magnitude"),
    (re.compile(rf"(?P<module>.+)\.token_adapter\.trainable_tokens_delta{_ADAPTER}"), "tokens"),
)
_SAVED_COPY = re.compile(r"\.modules_to_save\.[^.]+(?=\.)")
_BASE_LAYER = re.compile(r"\.base_layer(?=\.|$)")


class AdapterTensors(StoredTensors, Protocol):
    """The tensors of an adapter by their names in its file."""

    def names(self) -> list[str]:
        """Every name."""


@dataclass(frozen=True)
class Part:
    """What an adapter's tensor is. `module` is a module of the base, or for `whole` the name of one of its tensors.

    `depth`: how often `base_layer` stood in the name; `adapter`: the adapter's own name, where the file has it.
    """

    module: str
    role: Role
    depth: int = 0
    adapter: str = ""


def open_tensors(directory: Path) -> AdapterTensors:
    """The tensors of an adapter's directory. Raises AdapterError naming file and tensor."""
    file = directory / WEIGHTS
    try:
        if not file.exists() and not file.is_symlink() and (directory / PICKLED).exists():
            return _unpickled(directory / PICKLED)
        if not file.exists() and not file.is_symlink():
            raise _no_file(directory)
        return Shards.open_file(file)
    except CheckpointError as err:
        raise AdapterError(err.thing, err.value, err.expected, err.next_step) from err


def _no_file(directory: Path) -> AdapterError:
    others = sorted(f.name for f in directory.iterdir() if f.suffix in (".safetensors", ".bin", ".pt", ".pth"))
    shown = ", ".join(others[:3]) + (" ..." if others[3:] else "")
    step = f"join them into one {WEIGHTS}, as PEFT's save_pretrained writes it" if others else "copy the adapter again"
    value = f"no {WEIGHTS} and no {PICKLED}" + (f", but {shown}, which PEFT does not read" if others else "")
    return AdapterError(f"adapter {directory}", value, "one of the two", step)


def _unpickled(file: Path) -> InMemory:
    try:
        with warnings.catch_warnings():  # of pickles by others than torch: what is no tensor is refused below
            warnings.simplefilter("ignore")
            tensors = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as err:
        reason = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise AdapterError(f"adapter {file}", reason, "a pickle of tensors alone", "save it as safetensors") from err
    if not isinstance(tensors, Mapping) or not all(isinstance(t, torch.Tensor) for t in tensors.values()):
        kind = type(tensors).__name__
        raise AdapterError(f"adapter {file}", kind, "tensors by name", "save the adapter with PEFT's save_pretrained")
    return InMemory({str(name): tensor for name, tensor in tensors.items()}, str(file))


def is_as_peft_saves(name: str) -> bool:
    """Whether PEFT itself finds this tensor again: its prefix, and neither wrappers nor an adapter's name."""
    part = parse(name)
    return name.startswith("base_model.model.") and not part.adapter and not _WRAPPERS.search(name)


def parse(name: str) -> Part:
    """What the tensor of this name is."""
    plain = _WRAPPERS.sub("", name)
    plain = plain[_PREFIX.match(plain).end() :]  # type: ignore[union-attr]  # it matches everything
    for form, role in _FORMS:
        if match := form.fullmatch(plain):
            module, depth = _BASE_LAYER.subn("", match["module"])
            return Part(module, role, depth, match["adapter"] or "")
    tensor, depth = _BASE_LAYER.subn("", _SAVED_COPY.sub("", plain))
    return Part(tensor, "whole", depth)


def parts(names: list[str]) -> dict[Part, str]:
    """Part -> name in the file. Raises AdapterError where two tensors are the same part of one module, as they are in a
    file of two adapters."""
    result: dict[Part, str] = {}
    for name in names:
        part = parse(name)
        key = Part(part.module, part.role, part.depth)
        if key in result:
            value = f"the same part of {part.module} as {result[key]}"
            raise AdapterError(f"adapter tensor {name}", value, "one adapter in a file", REFIT)
        result[key] = name
    return result

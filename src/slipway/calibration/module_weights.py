"""Checkpoint tensors into the parameters of a transformers model, a part of it at a time.

The model is built with its parameters on the meta device: no memory, whatever its size. Buffers that are computed and
not stored (rotary frequencies, embedding scales) are made as always. `loaded` then gives a part real weights for a
while.

Checkpoint and module need not name or shape weights alike: transformers 5 stacks the 2-D weights of a mixture's experts
into 3-D parameters, renames modules, splits and joins. That way is its own and no business of ours, so it is used as
`from_pretrained` uses it, by the three calls that are the same from transformers 5.17 to 5.23:
`conversion_mapping.get_model_conversion_mapping(model)` (PEFT uses it too), `core_model_loading.rename_source_key`
(which parameter a tensor goes to) and `core_model_loading.convert_and_load_state_dict_in_model` (the loader itself).

Which checkpoint tensors a slice of a stacked parameter came from is not parsed from patterns but traced: each tensor is
replaced by its ordinal, as a bit pattern of the parameters' dtype, sent through the same loader, and read where it
lands.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    convert_and_load_state_dict_in_model,
    rename_source_key,
)
from transformers.modeling_utils import LoadStateDictConfig
from transformers.utils import logging

from slipway.errors import CheckpointError
from slipway.weights.shards import TensorInfo
from slipway.weights.stored_formats import READABLE_METHODS, quantization_method

_PATTERN = {2: torch.int16, 4: torch.int32}  # bytes of the parameters' dtype -> the integers an ordinal is written in
# What a class of transformers raises for a config, or for a call, that it was not written for
MODEL_ERRORS = (TypeError, ValueError, LookupError, AttributeError, NotImplementedError, RuntimeError)
_FIT = "check that config.json and the weights belong together"


@dataclass(frozen=True)
class Origin:
    """Where a module parameter comes from.

    `slices[e]` are the checkpoint tensors in slice e of a stacked (3-D) parameter; any other parameter is one slice.
    `stacked` when the checkpoint holds the stack itself: then slice e is number e of that tensor.
    """

    slices: tuple[tuple[str, ...], ...]
    stacked: bool


class ModuleWeights:
    """A causal language model of transformers, empty, and the way of checkpoint tensors into it."""

    def __init__(self, model_dir: Path, device: torch.device, dtype: torch.dtype) -> None:
        """Raises CheckpointError when transformers does not know the architecture or the weights are quantized."""
        self.device, self.dtype = device, dtype
        self.model = _empty_model(model_dir, dtype)
        for module in self.model.modules():
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.to(device))
        self._mapping = get_model_conversion_mapping(self.model)
        self._renamings = [entry for entry in self._mapping if isinstance(entry, WeightRenaming)]
        self._converters = [entry for entry in self._mapping if isinstance(entry, WeightConverter)]
        self._shapes = self.model.state_dict()
        self._tied = _tied(self.model)

    def target(self, name: str) -> str | None:
        """The parameter or buffer that a checkpoint tensor goes to (the first, where it is split), or None: it goes
        nowhere."""
        prefix = self.model.base_model_prefix
        renamed: str = rename_source_key(name, self._renamings, self._converters, prefix, self._shapes)[0]
        if renamed not in self._shapes and name in self._shapes:
            return name
        return renamed if renamed in self._shapes else None

    def paths(self) -> list[str]:
        """Parameters and stored buffers of the model."""
        return list(self._shapes)

    def parameters(self, module: nn.Module | None) -> set[str]:
        """Paths of the module's parameters, and of those tied to them."""
        own = {id(parameter) for parameter in module.parameters()} if module is not None else set()
        return {path for path, parameter in self.model.named_parameters(remove_duplicate=False) if id(parameter) in own}

    @contextmanager
    def loaded(self, weights: Mapping[str, torch.Tensor], needed: Iterable[str]) -> Iterator[None]:
        """Checkpoint-named tensors in the model's parameters, on the device, for the length of the context.

        On the CPU a tensor that already has the right dtype is not copied: leave it alone meanwhile. Raises
        CheckpointError for a tensor that fits nowhere, and for a parameter in `needed` that has got no value.
        """
        before = self._tensors()
        try:
            self._load(weights, self.device)
            self._require(needed)
            yield
        finally:
            self._restore(before)

    def origins(self, infos: Mapping[str, TensorInfo]) -> dict[str, Origin]:
        """For every parameter that these checkpoint tensors make: which of them it comes from. Raises
        CheckpointError."""
        groups: dict[str | None, list[str]] = defaultdict(list)
        for name in infos:
            groups[self.target(name)].append(name)
        origins: dict[str, Origin] = {}
        for group in groups.values():  # one at a time: a trace holds as much as the largest stacked parameter
            origins |= self._trace(group, infos)
        placed = {name for origin in origins.values() for names in origin.slices for name in names}
        if lost := [name for name in infos if name not in placed]:
            raise CheckpointError(
                f"tensor {lost[0]}", "lands in no parameter of the model", "one that it is loaded into", _FIT
            )
        return origins

    def _trace(self, names: Sequence[str], infos: Mapping[str, TensorInfo]) -> dict[str, Origin]:
        before = self._tensors()
        try:
            self._load({name: self._ordinal(i, infos[name].shape) for i, name in enumerate(names)}, torch.device("cpu"))
            made = {path: tensor for path, tensor in self._tensors().items() if tensor is not before[path]}
            return {path: self._origin(tensor, names, infos) for path, tensor in made.items()}
        finally:
            self._restore(before)

    def _ordinal(self, value: int, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.tensor([value], dtype=_PATTERN[self.dtype.itemsize]).view(self.dtype).reshape(()).expand(shape)

    def _origin(self, tensor: torch.Tensor, names: Sequence[str], infos: Mapping[str, TensorInfo]) -> Origin:
        """Read the ordinals of each slice along its first row and first column: tensors are joined along one or the
        other."""
        slices = tensor.detach() if tensor.dim() > 2 else tensor.detach().reshape(1, *tensor.shape or (1,))
        lines = [slices.flatten(1)] if slices.dim() < 3 else [slices[:, :, 0].flatten(1), slices[:, 0].flatten(1)]
        ordinals = torch.cat(lines, dim=1).to(self.dtype).contiguous().view(_PATTERN[self.dtype.itemsize])
        parts = tuple(tuple(names[i] for i in row.unique().tolist()) for row in ordinals)
        return Origin(parts, stacked=tensor.dim() > 2 and all(len(infos[name].shape) > 2 for name in parts[0]))

    def _load(self, weights: Mapping[str, torch.Tensor], device: torch.device) -> None:
        config = LoadStateDictConfig(
            device_map={"": device},
            dtype=self.dtype,
            dtype_plan=self.model._get_dtype_plan(self.dtype),
            weight_mapping=self._mapping,
        )
        with _quiet():
            info, _ = convert_and_load_state_dict_in_model(self.model, dict(weights), config, None)
        wrong: list[Any] = [*info.mismatched_keys, *info.unexpected_keys, *info.conversion_errors.items()]
        if wrong:
            raise CheckpointError(
                "weights of the model", wrong[0], "tensors that fit the architecture of config.json", _FIT
            )
        tensors = self._tensors()
        for group in self._tied:
            real = next((tensors[path] for path in group if not tensors[path].is_meta), None)
            if real is not None:
                for path in group:
                    _put(self.model, path, real)

    def _require(self, needed: Iterable[str]) -> None:
        """A product of real and meta tensors is not an error but garbage: torch does not check."""
        tensors = self._tensors()
        if missing := sorted(path for path in needed if tensors[path].is_meta):
            raise CheckpointError(
                f"parameter {missing[0]}", "no tensor of the checkpoint gives its value", "a complete model", _FIT
            )

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {
            **dict(self.model.named_parameters(remove_duplicate=False)),
            **dict(self.model.named_buffers(remove_duplicate=False)),
        }

    def _restore(self, before: Mapping[str, torch.Tensor]) -> None:
        """Also undoes what a forward did to buffers: rotary frequencies that follow the length of a row."""
        for path, tensor in self._tensors().items():
            if path in before and tensor is not before[path]:
                _put(self.model, path, before[path])


def _empty_model(model_dir: Path, dtype: torch.dtype) -> Any:
    """The model of config.json in evaluation mode. Experts run one at a time, so that every matmul has one weight."""
    try:
        config = AutoConfig.from_pretrained(model_dir, local_files_only=True)
        _refuse_quantized(model_dir, config)
        with _parameters_on_meta():
            model = _auto_class(config).from_config(config, dtype=dtype, experts_implementation="eager")
        model.apply(
            model._init_weights
        )  # buffers as from_pretrained makes them: in fp32, rounded once, not in `dtype` throughout
    except (*MODEL_ERRORS, OSError) as err:
        raise CheckpointError(
            f"model {model_dir}",
            f"{type(err).__name__}: {err}".partition("\n")[0][:200],
            "a causal language model that transformers knows",
            "update transformers, or use weight-only formats",
        ) from err
    return model.eval()


def _auto_class(config: Any) -> Any:
    """The causal language model of a config, or the one with towers beside it: run on text, its towers stay empty."""
    with_towers = type(config) not in AutoModelForCausalLM._model_mapping
    return AutoModelForImageTextToText if with_towers else AutoModelForCausalLM


def _refuse_quantized(model_dir: Path, config: Any) -> None:
    """What a checkpoint that is read dequantized is stored in is no business of the network's."""
    if getattr(config, "quantization_config", None) is None:
        return
    if quantization_method(config.to_dict()) in READABLE_METHODS:
        del config.quantization_config
    else:
        raise CheckpointError(
            f"quantization_config of {model_dir}",
            config.quantization_config,
            "none: weights in floating point",
            "start from bf16 weights",
        )


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Every parameter goes to the meta device when its module takes it; `torch.empty` before that touches no memory."""

    def to_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:  # noqa: ARG001
        if parameter is None or parameter.is_meta:  # one that is there already is tied: it must stay the same object
            return parameter
        return nn.Parameter(parameter.to("meta"), requires_grad=False)

    # torch's stub forgets that the hook may replace the parameter
    handle = register_module_parameter_registration_hook(to_meta)  # type: ignore[arg-type]
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar of transformers' own: a bar a layer says nothing."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _tied(model: nn.Module) -> list[list[str]]:
    """Parameters that are one tensor under several names (a head that is the embedding)."""
    paths: dict[int, list[str]] = defaultdict(list)
    for path, parameter in model.named_parameters(remove_duplicate=False):
        paths[id(parameter)].append(path)
    return [group for group in paths.values() if len(group) > 1]


def _put(model: nn.Module, path: str, tensor: torch.Tensor) -> None:
    owner, _, name = path.rpartition(".")
    setattr(model.get_submodule(owner), name, tensor)

"""What transformers says of a class of models, asked on the meta device: no weight is made, whatever its size.

It takes seconds to import transformers, so only those come here whose class is not in `architecture_table`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import transformers
from torch import nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    Chunk,
    Concatenate,
    MergeModulelist,
    PrefixChange,
    Split,
    Transpose,
    WeightConverter,
    WeightRenaming,
)
from transformers.pytorch_utils import Conv1D

from slipway.errors import CheckpointError
from slipway.weights.architecture import Architecture, Rename, Role
from slipway.weights.model_config import with_floats

_PLAIN = (MergeModulelist, Concatenate, Chunk, Split, Transpose)  # what they make of rows is rows again


def probe(config: Mapping[str, Any]) -> Architecture:
    """The class that a config.json names. Raises CheckpointError when transformers does not know it."""
    name, kind = class_name(config), str(config.get("model_type"))
    try:
        settings = transformers.AutoConfig.for_model(**{**with_floats(dict(config)), "model_type": kind})
        with torch.device("meta"):
            model = getattr(transformers, name)(settings)
    except Exception as err:  # transformers raises whatever its config classes do, and AttributeError for the class
        raise CheckpointError(
            "architecture in config.json",
            f"{name} of model_type {kind}: {' '.join(str(err).split())[:200]}",
            "a class that transformers knows and can build from this config",
            "update transformers, or use an architecture that it has: what its weights are is not guessed",
        ) from err
    return describe(model)


def class_name(config: Mapping[str, Any]) -> str:
    """`architectures[0]` of a config, else the causal language model of its model_type, else ''."""
    listed = config.get("architectures")
    if isinstance(listed, list) and listed and isinstance(listed[0], str):
        return listed[0]
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL

    name = CAUSAL.get(str(config.get("model_type")), "")
    return name if isinstance(name, str) else ""


def describe(model: Any) -> Architecture:
    """An Architecture from a model of transformers, which may lie on the meta device."""
    decoder = _decoder(model)
    modules: dict[Role, set[str]] = defaultdict(set)
    for path, role in _roles(model, decoder):
        modules[role].add(re.sub(r"(?<![^.])\d+(?![^.])", "#", path))
    transforms = get_model_conversion_mapping(model)
    return Architecture(
        name=type(model).__name__,
        model_type=model.config.model_type,
        base=model.base_model_prefix,
        modules={role: tuple(sorted(paths)) for role, paths in sorted(modules.items())},
        decoder=decoder,
        ties={
            head.removesuffix(".weight"): embedding.removesuffix(".weight")
            for head, embedding in _ties(model).items()
            if head.endswith(".weight")
        },
        tied_by_default=_tie(model.config, None, None),
        tied_by_text=_tie(model.config, False, True),
        fp32=tuple(sorted(model._keep_in_fp32_modules_strict or ())),
        fp32_in_half=tuple(sorted(model._keep_in_fp32_modules or ())),
        renames=tuple(_rename(entry) for entry in transforms if isinstance(entry, WeightRenaming)),
        converters=tuple(_rename(entry) for entry in transforms if isinstance(entry, WeightConverter)),
    )


def _decoder(model: Any) -> str:
    """The path of the language model inside a model that has towers beside it, or ''."""
    text = model.get_decoder()
    path = next(path for path, module in model.named_modules() if module is text)
    others = [name for name, module in model.base_model.named_children() if module is not text]
    nested = model.base_model is not text and isinstance(text, transformers.PreTrainedModel) and others
    return path if nested else ""


def _roles(model: Any, decoder: str) -> Iterator[tuple[str, Role]]:
    head = model.get_output_embeddings()
    for path, module in model.named_modules(remove_duplicate=False):
        outside = module is not head and bool(decoder) and not f"{path}.".startswith(f"{decoder}.")
        parent = model.get_submodule(path.rpartition(".")[0]) if path else model
        for leaf, parameter in module.named_parameters(recurse=False):
            if parameter.dim() < 2 or leaf.endswith("bias"):
                continue
            whole = f"{path}.{leaf}" if path else leaf
            role: Role = "head" if module is head else _role(module, parent, parameter)
            if outside:
                role = "tower" if role == "linear" else "outside"
            yield whole.removesuffix(".weight"), role


def _role(module: nn.Module, parent: nn.Module, weight: nn.Parameter) -> Role:
    kind = type(module).__name__
    if "Router" in kind or "Gate" in kind or _chooses_experts(module, parent):
        return "router"
    if isinstance(module, nn.Embedding):
        return "embedding"
    if isinstance(module, Conv1D):
        return "transposed"
    if isinstance(module, nn.Linear):
        return "linear"
    if weight.dim() == 3 and kind.endswith("Experts"):
        return "experts_in_first" if inputs_first(module) else "experts_out_first"
    return "other"


def _chooses_experts(module: nn.Module, parent: nn.Module) -> bool:
    """A Linear beside experts, whose outputs are one for each of them, or one that weighs the shared expert."""
    lists = [child for name, child in parent.named_children() if name == "experts" and isinstance(child, nn.ModuleList)]
    beside = [child for child in parent.children() if type(child).__name__.endswith("Experts")] + lists
    if not isinstance(module, nn.Linear) or not beside:
        return False
    counts = {1} | {len(child) for child in lists}
    counts |= {parameter.shape[0] for child in beside for parameter in child.parameters() if parameter.dim() == 3}
    return module.out_features in counts


def inputs_first(experts: nn.Module) -> bool:
    """Whether stacked experts lie as [E, I, O]: by what the class declares, else by the widths it notes of itself.

    Raises CheckpointError where neither tells.
    """
    declared = getattr(experts, "is_transposed", None)
    if declared is not None:
        return bool(declared)
    width = getattr(experts, "hidden_size", getattr(experts, "hidden_dim", None))
    stacked = next((p for n, p in experts.named_parameters(recurse=False) if n.startswith("gate_up")), None)
    if stacked is None or width is None or stacked.shape[1] == stacked.shape[2]:
        raise CheckpointError(
            f"experts of class {type(experts).__name__}",
            "orientation not declared",
            "`is_transposed`, or widths that tell inputs from outputs",
            "use an architecture that Slipway has verified: see slipway/weights/architecture_table.py",
        )
    return bool(stacked.shape[1] == width)


def _ties(model: Any) -> dict[str, str]:
    """head -> embedding, as if the config tied them."""
    declared = model._tied_weights_keys
    return dict(declared) if isinstance(declared, dict) else {}


def _tie(config: Any, top: bool | None, text: bool | None) -> bool:
    """What the config's class makes of `tie_word_embeddings` at the top and in the text part; None: no such key."""
    document = config.to_dict()
    for place, value in ((document, top), (document.get("text_config"), text)):
        if isinstance(place, dict):
            place.pop("tie_word_embeddings", None)
            place.update({} if value is None else {"tie_word_embeddings": value})
    return bool(getattr(transformers.AutoConfig.for_model(**document), "tie_word_embeddings", False))


def _rename(entry: Any) -> Rename:
    """Raises CheckpointError for a transform whose renaming `Rename` does not repeat."""
    if type(entry) not in (WeightRenaming, PrefixChange, WeightConverter):
        raise CheckpointError(
            "conversion mapping of transformers",
            f"{type(entry).__name__} on {entry.source_patterns}"[:200],
            "renamings, prefixes and converters",
            "use an architecture that Slipway has verified: see slipway/weights/architecture_table.py",
        )
    operations = getattr(entry, "operations", ())
    return Rename(
        entry.compiled_sources.pattern,
        entry.target_patterns[0],
        entry.scope_prefix,
        transposes=any(isinstance(operation, Transpose) for operation in operations),
        opaque=any(type(operation) not in _PLAIN for operation in operations),
    )

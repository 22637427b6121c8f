"""Whether an adapter's config says what can be merged, and whether the adapter holds all that it says: a pair for every
target, a tensor for every saved module.

PEFT loads an adapter that lacks some of them with a warning, and leaves those modules as the base has them. A file that
was cut, or saved by a trainer that did not gather its shards, looks like that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from slipway.errors import AdapterError
from slipway.weights.adapter_config import CONFIG, REFIT, RETRAIN, AdapterConfig
from slipway.weights.adapter_tensors import Part
from slipway.weights.base_names import BaseNames
from slipway.weights.saved_experts import SavedRows
from slipway.weights.updates import BiasSum, Dora, Product, Replacement, Stacked, TokenRows, Update

_EXCLUDE = f"{REFIT}; modules that were left out on purpose belong into exclude_modules of {CONFIG}"
_SHOWN = 5  # names in a message
_STACKED = ("gate_up_proj", "down_proj")  # parameters of stacked experts that a pair is merged into


def require_mergeable(directory: Path, config: AdapterConfig, base: BaseNames) -> None:
    """Raise AdapterError for target_parameters that no pair is merged into, and for modules_to_save of which one holds
    another: PEFT writes the inner one as the base has it, and cannot load the adapter again."""
    file = directory / CONFIG
    for parameter in config.get("target_parameters") or ():
        if parameter.rpartition(".")[2] not in ("weight", *_STACKED):
            expected = f"weights of modules, and {' and '.join(_STACKED)} of stacked experts: biases are none"
            raise AdapterError(f"target_parameters of {file}", parameter, expected, RETRAIN)
    saved = config.get("modules_to_save") or ()
    for path in sorted(base.paths().values()) if saved else ():
        parts = path.split(".")[:-1]
        modules = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
        nested = [module for module in modules if module.endswith(tuple(saved))]
        if len(nested) > 1:
            value = f"{json.dumps(saved)[:200]} names {nested[1]} and {nested[0]} around it"
            expected = "modules of which none holds another: PEFT cannot load such an adapter again"
            step = f"train again with a longer name for one of them, such as {'.'.join(nested[1].split('.')[-2:])}"
            raise AdapterError(f"modules_to_save of {file}", value, expected, step)


def require_complete(
    directory: Path, config: AdapterConfig, parts: Mapping[Part, str], base: BaseNames, updates: Mapping[str, Update]
) -> None:
    """Raise AdapterError, naming key and modules, where something is missing."""
    if untrained := _parameters(config, updates):
        value = f"has no pair for {_listed(untrained)}"
        has = ", ".join(base.expert_parameters()[:_SHOWN]) or "no stacked experts"
        expected = f"a pair for every one of target_parameters in {CONFIG}; the class of the base has {has}"
        step = (
            "PEFT passes over names that the class does not have: take them out of the config, or train with its names"
        )
        raise AdapterError(f"adapter {directory}", value, expected, step)
    for key, lacking in (
        ("target_modules", _without_pair(config, base, updates)),
        ("modules_to_save", _not_saved(config, base, updates)),
        ("trainable_token_indices", _tokens(config, updates)),
        ("use_dora", _pairs(parts, "magnitude") if config.get("use_dora") else []),
        ("lora_bias", _pairs(parts, "bias_B") if config.get("lora_bias") else []),
    ):
        if lacking:
            value = f"has nothing for {len(lacking)} of what {key} in {CONFIG} names: {_listed(lacking)}"
            raise AdapterError(f"adapter {directory}", value, "tensors for every one of them", _EXCLUDE)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if names[_SHOWN:] else "")


def _without_pair(config: AdapterConfig, base: BaseNames, updates: Mapping[str, Update]) -> list[str]:
    if config.get("target_modules") == "all-linear":
        return []  # it stands for what the class calls a Linear; PEFT writes the list of modules in its place
    paired = {name for name, update in updates.items() if isinstance(update, Product | Stacked | Dora)}
    # a class that stacks its experts has none of their modules; an adapter made for one that did not has all
    apart = any(base.is_expert(name) and _module(updates[name]) == name.removesuffix(".weight") for name in paired)
    modules = base.modules()
    leaves = {_leaf(m) for m, name in modules.items() if name in paired}
    return [
        m
        for m, name in modules.items()
        if name not in paired
        and (apart or not base.is_expert(name))
        and config.targets(m)
        # a wildcard takes in what no trainer puts a pair on: embeddings, routers
        and (_leaf(m) in leaves or not config.by_wildcard(m))
    ]


def _leaf(module: str) -> str:
    return module.rpartition(".")[2]


def _module(update: Update) -> str:
    pair = update.product if isinstance(update, Dora) else update
    return pair.module if isinstance(pair, Product | Stacked) else ""


def _parameters(config: AdapterConfig, updates: Mapping[str, Update]) -> list[str]:
    modules = {
        name for update in updates.values() if (module := _module(update)) for name in (module, f"{module}.weight")
    }
    targets = config.get("target_parameters") or []
    return [t for t in targets if not any(module == t or module.endswith(f".{t}") for module in modules)]


def _not_saved(config: AdapterConfig, base: BaseNames, updates: Mapping[str, Update]) -> list[str]:
    """Entries of which the base has a module and the adapter no tensor. PEFT passes over those without a module."""
    present = {
        path: isinstance(updates.get(name), Replacement | SavedRows | BiasSum) for name, path in base.paths().items()
    }
    present |= {name: True for name in updates if name not in base.paths()}  # a head that was the embedding
    saved = {
        entry: [whole for path, whole in present.items() if AdapterConfig.is_saved(path, [entry])]
        for entry in config.get("modules_to_save") or ()
    }
    return [entry for entry, wholes in saved.items() if wholes and not any(wholes)]


def _tokens(config: AdapterConfig, updates: Mapping[str, Update]) -> list[str]:
    indices = config.get("trainable_token_indices")
    rows = any(isinstance(update, TokenRows) for update in updates.values())
    return [str(indices)] if indices and not rows else []


def _pairs(parts: Mapping[Part, str], role: str) -> list[str]:
    """Modules with a pair that lack another part."""
    present = {part.module for part in parts if part.role == role}
    return [part.module for part in parts if part.role == "A" and part.module not in present]

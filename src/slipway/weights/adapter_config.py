"""adapter_config.json of a PEFT LoRA adapter: checked key by key, and what it says of a module.

    s = alpha / r,  or alpha / sqrt(r) with use_rslora, in fp64      (peft/tuners/lora/layer.py, update_layer)

`rank_pattern` and `alpha_pattern` override r and alpha per module. Keys that change what a merge means and are not in
`_HANDLED` are refused by name, those of a future PEFT too, and so are initialisations that are not in `_INITS`.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slipway.errors import AdapterError, StateError
from slipway.system.json_files import read_value

CONFIG = "adapter_config.json"
REFIT = "check that this adapter was trained on this base model"
RETRAIN = "merge it with PEFT itself and use the result as model.directory, or train without it"
_WITHOUT_EFFECT_ON_A_MERGE = {
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "inference_mode",
    "init_lora_weights",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
}
# Initialisations that subtract from the base weights. PEFT runs them again when it loads an adapter that was saved
# without `path_initial_model_for_weight_conversion`; converted adapters say `true` here.
_CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_INITS = ("none", "true", "false", "gaussian", "eva", "orthogonal", "mica")  # those that leave it as it is
_ACTIVATED = (
    "off: an activated LoRA (aLoRA) changes only the tokens behind its invocation, and merged weights change all",
    "serve the base with the adapter beside it, in an engine that knows aLoRA, or train without it",
)
# Keys that no merge can carry, PEFT's neither: what is expected, and the way out.
_UNMERGEABLE = {
    "alora_invocation_tokens": _ACTIVATED,
    "alora_invocation_string": _ACTIVATED,
    "invocation_string": _ACTIVATED,
    "arrow_config": (
        "off: Arrow chooses among several adapters for every token, and merged weights hold one",
        "merge one of the adapters, or train one on all of the data",
    ),
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_rank(value: Any) -> bool:
    return _is_index(value) and value > 0


def _strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)


def _indices(value: Any) -> bool:
    return isinstance(value, list) and all(_is_index(item) for item in value)


def _patterns(is_value: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, dict) and all(_is_regex(key) and is_value(number) for key, number in value.items())
    )


def _is_regex(value: Any) -> bool:
    try:
        re.compile(value)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def _selects(value: Any) -> bool:
    """The form of target_modules and exclude_modules: a regular expression or names."""
    return _is_regex(value) if isinstance(value, str) else _strings(value)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


# key -> whether a value other than null has its type, and what the type is called
_HANDLED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "r": (_is_rank, "a positive integer"),
    "lora_alpha": (_is_number, "a number"),
    "use_rslora": (_is_flag, "true or false"),
    "use_dora": (_is_flag, "true or false"),
    "lora_bias": (_is_flag, "true or false"),
    "fan_in_fan_out": (_is_flag, "true or false"),
    "ensure_weight_tying": (_is_flag, "true or false"),
    "rank_pattern": (_patterns(_is_rank), "regular expressions with positive integers"),
    "alpha_pattern": (_patterns(_is_number), "regular expressions with numbers"),
    "target_modules": (_selects, "a regular expression or a list of names"),
    "exclude_modules": (_selects, "a regular expression or a list of names"),
    "target_parameters": (_strings, "a list of names"),
    "modules_to_save": (_strings, "a list of names"),
    "layers_to_transform": (lambda value: _is_index(value) or _indices(value), "layers' numbers"),
    "layers_pattern": (_selects, "a name or a list of names"),
    "trainable_token_indices": (
        lambda value: _indices(value) or (isinstance(value, dict) and all(map(_indices, value.values()))),
        "token ids, or token ids by module",
    ),
    "bias": (lambda value: value in ("none", "all", "lora_only"), "none, all or lora_only"),
}


class AdapterConfig(dict[str, Any]):
    """The keys of adapter_config.json. Raises AdapterError, naming the key, for what is damaged or cannot be merged."""

    def __init__(self, directory: Path) -> None:
        super().__init__(_read(directory))
        _refuse(directory / CONFIG, self)

    def rank(self, module: str) -> int:
        """r of a module: `rank_pattern`'s, else the adapter's."""
        return int(_by_pattern(self.get("rank_pattern"), module, self["r"]))

    def scaling(self, module: str) -> float:
        """s of a module."""
        alpha, rank = float(_by_pattern(self.get("alpha_pattern"), module, self["lora_alpha"])), self.rank(module)
        return alpha / math.sqrt(rank) if self.get("use_rslora") else alpha / rank

    def saves(self, name: str) -> bool:
        """Whether a tensor belongs to a module in modules_to_save."""
        return self.is_saved(name, self.get("modules_to_save") or ())

    @staticmethod
    def is_saved(name: str, modules: Sequence[str]) -> bool:
        """Whether a tensor belongs to one of `modules` by PEFT's rule: the end of its module's name, or of the name of
        one around it."""
        parts = name.split(".")[:-1]
        paths = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
        return any(path.endswith(module) for module in modules for path in paths)

    def targets(self, module: str) -> bool:
        """Whether the adapter is on this module by target_modules, exclude_modules, layers_to_transform and
        layers_pattern (peft/tuners/tuners_utils.py, check_target_module_exists)."""
        targets, excluded = self.get("target_modules") or [], self.get("exclude_modules") or []
        if _selected(excluded, module) or self.saves(f"{module}.weight"):
            return False
        if isinstance(targets, str) or module in targets:
            return _selected(targets, module)
        return _selected(targets, module) and self._transforms(module)

    def by_wildcard(self, module: str) -> bool:
        """Whether nothing but a name with `*` puts the adapter on this module."""
        targets = self.get("target_modules") or []
        plain = targets if isinstance(targets, str) else [name for name in targets if "*" not in name]
        return self.targets(module) and not _selected(plain, module)

    def _transforms(self, module: str) -> bool:
        layers, patterns = self.get("layers_to_transform"), self.get("layers_pattern") or r"[^.]*"
        if layers is None or layers == []:
            return True
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            # the first number is the layer, a later one an expert
            match = re.match(rf"(?:^|.*?\.){pattern}\.(\d+)\.", module)
            if match:
                return int(match[1]) in ([layers] if isinstance(layers, int) else layers)
        return False


def _selected(selector: str | list[str], module: str) -> bool:
    if isinstance(selector, str):
        return bool(re.fullmatch(selector, module))
    return any(
        bool(wildcard(name).fullmatch(module)) if "*" in name else module == name or module.endswith(f".{name}")
        for name in selector
    )


@functools.lru_cache(maxsize=1000)
def wildcard(pattern: str) -> re.Pattern[str]:
    """A name with `*`, as NeMo Automodel reads it (0.7, components/_peft/module_matcher.py): for any text; `.*` after a
    whole segment or a number for what is below it or nothing, so that `*.layers.1.*` is not `layers.10`.

    A dot between them is any character, as there; text that is no regular expression matches nothing. PEFT knows no
    wildcards.
    """
    parts = re.split(r"(\.?\*)", pattern)
    expression = ""
    for i, part in enumerate(parts):
        before = parts[i - 1] if i else ""
        whole = before.startswith(".") or (i == 1 and bool(before)) or re.search(r"\.\d+$", before) is not None
        if i % 2 == 0:
            expression += part
        else:
            expression += r"(\..*)?" if part == ".*" and whole else ".*"
    expression = re.sub(r"(\.\*)+", ".*", expression)  # a row of them says no more, and takes for ever to fail
    return re.compile(expression if _is_regex(expression) else "(?!)")


def _by_pattern(patterns: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """The first pattern that matches the end of the module's name (peft/utils/other.py, get_pattern_key)."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def _read(directory: Path) -> dict[str, Any]:
    file = directory / CONFIG
    if directory.is_dir() and not file.exists() and not file.is_symlink():
        step = "point at the directory PEFT saved"
        if any(directory.glob("*.distcp")) or any(directory.glob("*/*.distcp")):
            step = "it is a distributed checkpoint: gather it with the trainer that wrote it, and save it with PEFT"
        raise AdapterError(f"adapter {directory}", f"no {CONFIG}", "a PEFT adapter", step)
    try:
        config = read_value(file, "adapter config", "point at a directory that PEFT saved, or copy the file again")
    except StateError as err:
        raise AdapterError(err.thing, err.value, err.expected, err.next_step) from err
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else type(config).__name__
        raise AdapterError(f"peft_type of {file}", kind, "LORA", RETRAIN)
    return config


def _refuse(file: Path, config: Mapping[str, Any]) -> None:
    for key, (is_typed, expected) in _HANDLED.items():
        value = config.get(key)
        missing = key in ("r", "lora_alpha") and value is None
        if missing or (value is not None and not is_typed(value)):
            raise AdapterError(f"{key} of {file}", json.dumps(value), expected, "copy the file again, or mend it")
    init = str(config.get("init_lora_weights")).lower()
    if init.startswith(_CHANGES_THE_BASE):
        expected = "an initialisation that leaves the base as it is, or an adapter that PEFT converted when it saved"
        raise AdapterError(f"init_lora_weights of {file}", init, expected, RETRAIN)
    if init not in _INITS:
        expected = "one of " + ", ".join(_INITS[1:]) + ": whether another changes the base is not known"
        raise AdapterError(f"init_lora_weights of {file}", init[:80], expected, RETRAIN)
    for key, value in config.items():
        if value and key not in _HANDLED.keys() | _WITHOUT_EFFECT_ON_A_MERGE:
            expected, step = _UNMERGEABLE.get(key, ("off: Slipway does not merge it", RETRAIN))
            raise AdapterError(f"{key} of {file}", json.dumps(value)[:200], expected, step)

"""`key=value` words: `train.lr=3.0e-4`, `layers.quantize=formats/fp8`, and `layers=NAME`, which chooses a preset.

Values are YAML, but for keys that hold text: there the value is the text itself, as a person types it
(`data.system=Task: answer`), unless it is `null`, empty, or wholly in quotes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from slipway.config.layers import reason
from slipway.errors import ConfigError
from slipway.system.redact import mask

_KEY = re.compile(r"[A-Za-z_][\w.-]*(?<!\.)")


@dataclass
class Overrides:
    """What words of a command line set: `values` as a nested document over `cleared`, the mappings that they empty, and
    the presets that they choose, in order."""

    values: dict[str, Any] = field(default_factory=dict)
    cleared: dict[str, Any] = field(default_factory=dict)
    presets: list[str] = field(default_factory=list)


def parse_overrides(
    words: Sequence[str], thing: str = "override", holds_text: Callable[[str], bool] = lambda _: False
) -> Overrides:
    """Read `key=value` words, later ones winning; `holds_text` says of a key whether its value is plain text. Raises
    ConfigError naming the first word that is none."""
    parsed = Overrides()
    merged: DictConfig | ListConfig = OmegaConf.create()
    for word in words:
        key, separator, value = word.partition("=")
        if not separator or not _KEY.fullmatch(key) or ".." in key:
            raise _refused(thing, word, "no dotted key before `=`")
        try:
            one = _plain(key, value) if holds_text(key) and not _is_yaml(value) else OmegaConf.from_dotlist([word])
            plain = OmegaConf.to_container(one)
            if key == "layers" and isinstance(value, str) and isinstance(plain, dict) and isinstance(plain[key], str):
                parsed.presets.append(plain[key])
            else:
                merged = OmegaConf.merge(without_cleared(merged, plain), one)
                for section, name in _cleared(plain):
                    parsed.cleared.setdefault(section, {})[name] = {}
        except (OmegaConfBaseException, YAMLError, ValueError, LookupError, RecursionError) as err:
            raise _refused(thing, word, reason(err)) from err
    values = OmegaConf.to_container(merged)
    assert isinstance(values, dict)
    parsed.values = {str(key): value for key, value in values.items()}
    return parsed


def _is_yaml(value: str) -> bool:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return quoted or value.strip() in ("", "null", "~")


def _plain(key: str, value: str) -> DictConfig:
    one = OmegaConf.create()
    OmegaConf.update(one, key, value)
    return one


def without_cleared(merged: Any, later: Any) -> Any:
    """`merged` (OmegaConf) without the mappings that `later` (plain) sets to `{}` below a section."""
    for section, key in _cleared(later):
        if OmegaConf.is_dict(merged.get(section)):
            merged[section].pop(key, None)
    return merged


def _cleared(document: Any) -> list[tuple[str, str]]:
    """Section and key of every empty mapping below a section."""
    return [
        (str(section), str(key))
        for section, values in (document.items() if isinstance(document, Mapping) else ())
        for key, value in (values.items() if isinstance(values, Mapping) else ())
        if isinstance(value, Mapping) and not value
    ]


def _refused(thing: str, word: str, why: str) -> ConfigError:
    shown = mask(word if len(word) <= 120 else f"{word[:120]}...")
    return ConfigError(thing, f"{shown!r}: {why}", "key=value with a dotted key", "see `slipway run --help`")

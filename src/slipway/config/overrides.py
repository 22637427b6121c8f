"""`key=value` words: `train.lr=3.0e-4`, `layers.quantize=formats/fp8`, and `layers=NAME`, which chooses a preset."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
    """What words of a command line set: `values` as a nested document, and the presets that they choose, in order."""

    values: dict[str, Any] = field(default_factory=dict)
    presets: list[str] = field(default_factory=list)


def parse_overrides(words: Sequence[str], thing: str = "override") -> Overrides:
    """Read `key=value` words, later ones winning. Raises ConfigError naming the first word that is none."""
    parsed = Overrides()
    merged: DictConfig | ListConfig = OmegaConf.create()
    for word in words:
        key, separator, value = word.partition("=")
        if not separator or not _KEY.fullmatch(key) or ".." in key:
            raise _refused(thing, word, "no dotted key before `=`")
        try:
            one = OmegaConf.from_dotlist([word])
            plain = OmegaConf.to_container(one)
            if key == "layers" and isinstance(value, str) and isinstance(plain, dict) and isinstance(plain[key], str):
                parsed.presets.append(plain[key])
            else:
                merged = OmegaConf.merge(merged, one)
        except (OmegaConfBaseException, YAMLError, ValueError, LookupError, RecursionError) as err:
            raise _refused(thing, word, reason(err)) from err
    values = OmegaConf.to_container(merged)
    assert isinstance(values, dict)
    parsed.values = {str(key): value for key, value in values.items()}
    return parsed


def _refused(thing: str, word: str, why: str) -> ConfigError:
    shown = mask(word if len(word) <= 120 else f"{word[:120]}...")
    return ConfigError(thing, f"{shown!r}: {why}", "key=value with a dotted key", "see `slipway run --help`")

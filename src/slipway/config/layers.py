"""Files of `conf/`: one YAML mapping each. A layer fills one section; a preset (`conf/presets/NAME.yaml`) chooses
layers. A layer may choose others too, under its key `with`: data choose the gate that fits their task."""

from __future__ import annotations

import copy
import functools
import io
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from slipway.errors import ConfigError
from slipway.system.nearest import did_you_mean, nearest

PRESETS = "presets"
WITH = "with"  # not `layers`, which a model has
_SHOWN_CHARS = 200


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in one YAML file, interpolations unresolved and `description` left out.

    Raises ConfigError naming the file, and the line where YAML has one, for anything that is no such file.
    """
    thing = f"config file {path}"
    if not path.is_file():
        raise _absent(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as err:
        raise ConfigError(thing, f"byte {err.start} is not UTF-8", "YAML as UTF-8 text", "save it as UTF-8") from err
    except OSError as err:
        raise ConfigError(thing, err.strerror, "a readable file", "check its permissions") from err
    if "\0" in text:
        raise ConfigError(thing, "holds a NUL character", "YAML text", "restore the file; this one is binary")
    try:
        doc = copy.deepcopy(_parsed(text))
    except (OmegaConfBaseException, YAMLError, OSError, RecursionError) as err:
        raise ConfigError(thing, reason(err), "a YAML mapping of keys", "correct the file") from err
    if not isinstance(doc, dict) or (doc and all(value is None for value in doc.values()) and ":" not in text):
        raise ConfigError(thing, f"`{text.strip()[:40]}`", "a YAML mapping of keys", "correct the file")
    return {str(key): value for key, value in doc.items() if key != "description"}


@functools.lru_cache(64)
def _parsed(text: str) -> Any:
    """By the text: a layer is read for what it chooses, and again for what it says."""
    return OmegaConf.to_container(OmegaConf.load(io.StringIO(text)))


def reason(err: Exception) -> str:
    """Why YAML or OmegaConf refused, in one line of bounded length."""
    if isinstance(err, RecursionError):
        return "nested too deep, or within itself"
    if isinstance(err, MarkedYAMLError) and err.problem_mark:
        problem, line = err.problem or err.context or "", err.problem_mark.line + 1
        return f"{problem} (line {line})"[:_SHOWN_CHARS]
    return (str(err).splitlines() or [type(err).__name__])[0][:_SHOWN_CHARS]


def choices(value: Any, source: str, sections: Collection[str]) -> dict[str, str]:
    """The value of `layers:` as section -> layer name; raises ConfigError for another shape or an unknown section."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        shown = f"{value!r}"[:_SHOWN_CHARS]
        raise ConfigError(f"layers in {source}", shown, "a mapping of section to file", "see conf/base.yaml")
    for section, name in value.items():
        if section not in sections:
            hint = did_you_mean(str(section), sections, "`slipway config` lists the sections")
            raise ConfigError(
                f"layers.{section}", f"unknown, in {source}", f"one of {', '.join(sorted(sections))}", hint
            )
        if not isinstance(name, str) or not _is_below(name):
            shown = f"{name!r}"[:_SHOWN_CHARS]
            raise ConfigError(f"layers.{section}", shown, "the name of a file below conf/, without .yaml", "name one")
    return {str(section): str(name) for section, name in value.items()}


def _is_below(name: str) -> bool:
    """Whether a name stays below conf/: `deploy/../gates/any` is no target."""
    path = Path(name)
    return bool(name.strip()) and "\0" not in name and not path.is_absolute() and ".." not in path.parts


def preset(conf: Path, name: str, sections: Collection[str]) -> dict[str, str]:
    """The layers that `conf/presets/<name>.yaml` chooses. Raises ConfigError when it holds anything but layers."""
    if not _is_below(name):
        raise ConfigError("layers", f"{name!r}"[:_SHOWN_CHARS], f"the name of a file of conf/{PRESETS}", "name one")
    path = conf / PRESETS / f"{name}.yaml"
    doc = read_mapping(path)
    if extra := sorted(set(doc) - {"layers"}):
        raise ConfigError(
            f"preset {path}", f"key {extra[0]!r}", "`description` and `layers` only", "put values in layers"
        )
    return choices(doc.get("layers"), str(path), sections)


def companions(
    conf: Path, layers: Mapping[str, str], sections: Collection[str], named: Collection[str] = ()
) -> dict[str, str]:
    """The layers that these layers choose for other sections. Raises ConfigError when two choose for one section that
    is not among `named`, whose layer somebody has chosen, or when a chosen one chooses in turn."""
    chosen: dict[str, str] = {}
    for name in layers.values():
        for section, other in _chosen_by(conf, name, sections).items():
            if chosen.setdefault(section, other) != other and section not in named:
                raise ConfigError(
                    f"`with` in {name}",
                    f"{section}: {other}",
                    f"{chosen[section]} as another layer chooses",
                    f"say which: layers.{section}={other}, or another; or drop one of the two layers",
                )
            if _chosen_by(conf, other, sections):
                raise ConfigError(f"`with` in {name}", other, "a layer that chooses no others", "name all of them here")
    return chosen


def _chosen_by(conf: Path, name: str, sections: Collection[str]) -> dict[str, str]:
    path = conf / f"{name}.yaml"
    return choices(read_mapping(path).get(WITH), str(path), sections)


def read_layers(conf: Path, layers: Mapping[str, str]) -> list[dict[str, Any]]:
    """One document a chosen layer: its section with the file's mapping, without the layers that it chooses."""
    documents = [(section, read_mapping(conf / f"{name}.yaml")) for section, name in layers.items()]
    return [{section: {key: v for key, v in doc.items() if key != WITH}} for section, doc in documents]


def _absent(path: Path) -> ConfigError:
    if path.exists():
        return ConfigError("config layer", path, "a YAML file", "this is no regular file; name a file")
    near = nearest(path.name, [p.name for p in path.parent.glob("*.yaml")])
    hint = f"did you mean {path.parent / near}?" if near else "run from the project's root, or pass --conf"
    return ConfigError("config layer", path, "an existing YAML file", hint)

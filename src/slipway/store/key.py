"""The key that decides reuse: digest of inputs, params, code version and, for engines, hardware."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel

from slipway.errors import SlipwayError
from slipway.store.artifacts import Artifact
from slipway.system.files import canonical, sha256_bytes, sha256_file

# The modules whose code decides an artifact's bytes, where that is not the whole stage: days of training are not thrown away
# because a runner was mended.
CODE_OF = {"train_nemo": ("training.nemo.recipe", "training.nemo.steps")}
ROOT = Path(__file__).resolve().parents[1]


@runtime_checkable
class Keyed(Protocol):
    """Params of which only a part decides the artifact's bytes."""

    def key_document(self) -> dict[str, Any]: ...


def stage_key(name: str, inputs: Mapping[str, Artifact | None], params: BaseModel, extra: Mapping[str, str]) -> str:
    """sha256 over inputs' digests, params, the stage's code and `extra` (hardware, image); hex."""
    doc = {
        "stage": name,
        "inputs": {k: v.digest if v else None for k, v in inputs.items()},
        "params": params.key_document() if isinstance(params, Keyed) else params.model_dump(mode="json"),
        "code": stage_code(name),
        "extra": dict(extra),
    }
    return sha256_bytes(canonical(doc))


def stage_code(name: str) -> str:
    """The code version of a stage."""
    return code_digest(*CODE_OF.get(name, (f"stages.{name}",)))


@functools.cache
def code_digest(*modules: str) -> str:
    """sha256 over the sources of `slipway.<module>` and every slipway module they import, in turn: their code version.

    Raises SlipwayError when one of them imports a module of slipway that has no file.
    """
    files = {name: sha256_file(_source(name)) for name in reached(*modules)}
    return sha256_bytes(canonical(sorted(files.items())))


@functools.cache
def reached(*modules: str) -> tuple[str, ...]:
    """`modules` and every slipway module that they import, in turn; dotted names below `slipway`, sorted."""
    todo, names = list(modules), set[str]()
    while todo:
        name = todo.pop()
        if name not in names:
            names.add(name)
            todo += _slipway_imports(_source(name))
    return tuple(sorted(names))


def _source(name: str) -> Path:
    """The file of `slipway.<name>`: a module's, or a package's `__init__`."""
    module = ROOT.joinpath(*name.split("."))
    for file in (module.with_suffix(".py"), module / "__init__.py"):
        if file.is_file():
            return file
    raise SlipwayError(
        f"import slipway.{name}", "no such file", "a module of slipway", "reinstall slipway: its code is not complete"
    )


def _slipway_imports(file: Path) -> Iterator[str]:
    """Dotted names below `slipway` of what a file imports from it, wherever in the file that is done."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and (node.module + ".").startswith("slipway."):
            below = node.module.removeprefix("slipway").removeprefix(".")
            yield from (_module_of(below, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (a.name.removeprefix("slipway.") for a in node.names if a.name.startswith("slipway."))


def _module_of(package: str, name: str) -> str:
    """`from slipway.<package> import <name>`: the module itself, or the one that defines the name."""
    inside = f"{package}.{name}".removeprefix(".")
    path = ROOT.joinpath(*inside.split("."))
    if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
        return inside
    return package or "__init__"

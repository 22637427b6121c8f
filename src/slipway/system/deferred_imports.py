"""What transformers and PEFT import with any model and no process of ours uses: put off, or said to be absent.

A process that opens a model imports the base that all models of transformers share, and that imports torch's compiler
(`torch._dynamo`, with sympy, some thousand modules), torch's sharded tensors and checkpoints, flex attention, and
scipy's optimizers for a loss of object detection: more than half of the seconds before the first tensor is read. PEFT
imports bitsandbytes, which compiles three functions, where it is installed. Slipway compiles no network, shards no
tensor, detects no objects, and needs bitsandbytes where weights are loaded with it.

`install` puts a finder before Python's. transformers is told through its own switches that scipy, distributed torch and
flex attention are absent, as on machines where they are. `torch._dynamo` and `bitsandbytes` become stand-ins until they
are asked for anything: then the real package takes their place. The compiler's takes the marks that functions are given
for it (`@torch.compiler.disable`) without that: `torch.compile` works as ever, but for marks that were made before.
What is imported already stays as it is.

pydantic asks every installed distribution for plugins at its first model, which reads some two hundred files; it is
told that none is wanted, unless the environment says otherwise.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"
# Packages that wait until they are asked for something. Each call names its package, so that a stage's key follows it.
PUT_OFF: Mapping[str, Callable[[], ModuleType]] = {
    COMPILER: lambda: importlib.import_module("torch._dynamo"),
    "bitsandbytes": lambda: importlib.import_module("bitsandbytes"),
}
MARKS = frozenset({"allow_in_graph", "assume_constant_result", "disable", "graph_break"})
BESIDE = frozenset({f"{COMPILER}._trace_wrapped_higher_order_op"})  # modules that work beside their package's stand-in
SWITCHES = ("is_scipy_available", "is_torch_distributed_available", "is_torch_flex_attn_available")
_ASKED_IN = ("transformers.utils.import_utils", "transformers.utils")
_REAL = threading.RLock()
_wanted: set[str] = set()


def install() -> None:
    """Put the finder before Python's own, once; for processes that are ours from start to end."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds nothing but the stand-ins, each until its package is wanted."""

    def find_spec(self, name: str, path: Sequence[str] | None, _target: ModuleType | None = None) -> ModuleSpec | None:
        """A package without its own code for one that is put off, whose modules are found where they are; None, which
        is Python's own way, for all others. transformers' are a moment to set its switches, those of a package that is
        put off to import it whole."""
        if name.startswith("transformers."):
            _switch_off()
        package = next((one for one in PUT_OFF if name == one or name.startswith(f"{one}.")), "")
        if not package or package in _wanted or name in BESIDE:
            return None
        if name == package:
            spec = PathFinder.find_spec(name, path)
            if spec is not None:
                spec.loader = _StandIns()
            return spec
        _real(package)
        return ModuleSpec(name, _Imported(sys.modules[name])) if name in sys.modules else None


class _StandIns(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: that is what is put off."""


class _Imported(Loader):
    """For a module that came with its whole package, between the question where it is and the answer."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.spec = module, module.__spec__

    def create_module(self, _spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing but its own spec again."""
        module.__spec__ = self.spec


class _StandIn(ModuleType):
    """A package until it is needed."""

    def __getattr__(self, name: str) -> Any:
        package = self.__name__
        if package == COMPILER and name in MARKS:
            return _marked
        if name.startswith("__") and name != "__version__":  # asked by the import system, of every module
            raise AttributeError(name)
        return getattr(_real(package), name)


def _marked(function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Any:
    """A mark for a compiler that does not run: the function itself, as a call or as a decorator with options."""
    return function if function is not None else lambda decorated: decorated


def _real(package: str) -> ModuleType:
    """The package itself, imported in the place of its stand-in."""
    with _REAL:
        if isinstance(sys.modules.get(package), _StandIn):
            _wanted.add(package)
            del sys.modules[package]
            PUT_OFF[package]()
        return sys.modules[package]


def _switch_off() -> None:
    for place in _ASKED_IN:
        known = vars(sys.modules[place]) if place in sys.modules else {}
        known.update({switch: _absent for switch in SWITCHES if switch in known})


def _absent(*_: Any, **__: Any) -> bool:
    return False

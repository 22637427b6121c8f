"""What transformers and PEFT import with any model and no process of ours uses: put off, or said to be absent.

A process that opens a model imports the base that all models of transformers share, and that imports torch's compiler
(`torch._dynamo`, with sympy, some thousand modules), torch's sharded tensors and checkpoints, flex attention, and
scipy's optimizers for a loss of object detection: more than half of the seconds before the first tensor is read. PEFT
imports bitsandbytes where it is installed, which has torch compile three functions. Slipway compiles no network, shards
no tensor and detects no objects.

`install` puts a finder before Python's. transformers is told through its own switches that scipy, distributed torch and
flex attention are absent, as on machines where they are. `torch._dynamo` becomes a stand-in that takes the marks that
functions are given for a compiler (`@torch.compiler.disable`), and the real package when it is asked for anything else.
A function that `torch.compile` is given is compiled when it is called. Both work as ever, but for marks that were made
before. Where transformers is imported already nothing is changed.

pydantic asks every installed distribution for plugins at its first model, which reads some two hundred files; it is
told that none is wanted, unless the environment says otherwise.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import FunctionType, ModuleType
from typing import Any

COMPILER = "torch._dynamo"
MARKS = frozenset({"allow_in_graph", "assume_constant_result", "disable", "graph_break"})
BESIDE = frozenset({f"{COMPILER}._trace_wrapped_higher_order_op"})  # modules that work beside their package's stand-in
SWITCHES = ("is_scipy_available", "is_torch_distributed_available", "is_torch_flex_attn_available")
_ASKED_IN = ("transformers.utils.import_utils", "transformers.utils")
_REAL = threading.RLock()


def install() -> None:
    """Put the finder before Python's own, once; for processes that are ours from start to end."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if "transformers" in sys.modules:  # half of it would be told otherwise than the half that is there
        return
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds nothing but the compiler's stand-in, until the compiler itself is wanted."""

    compiler_wanted = False

    def find_spec(self, name: str, path: Sequence[str] | None, _target: ModuleType | None = None) -> ModuleSpec | None:
        """A package without its own code for `torch._dynamo`, whose modules are found where they are; None, which is
        Python's own way, for all others. Those of transformers and bitsandbytes are a moment to set what they ask, the
        compiler's to import it whole."""
        if name.startswith(("transformers.", "bitsandbytes.")):
            _switch_off()
            _compile_when_called()
            _shard_when_asked()
        if not f"{name}.".startswith(f"{COMPILER}.") or self.compiler_wanted or name in BESIDE:
            return None
        if name == COMPILER:
            spec = PathFinder.find_spec(name, path)
            if spec is not None:
                spec.loader = _StandIns()
            return spec
        _compiler()
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
    """`torch._dynamo` until it is needed."""

    def __getattr__(self, name: str) -> Any:
        if name in MARKS:
            return _marked
        if name.startswith("__"):  # asked by the import system, of every module
            raise AttributeError(name)
        return getattr(_compiler(), name)


def _marked(function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Any:
    """A mark for a compiler that does not run: the function itself, as a call or as a decorator with options."""
    return function if function is not None else lambda decorated: decorated


def _compiler() -> ModuleType:
    """The real package, imported in the place of its stand-in."""
    with _REAL:
        if isinstance(sys.modules.get(COMPILER), _StandIn):
            _Finder.compiler_wanted = True
            del sys.modules[COMPILER]
            importlib.import_module("torch._dynamo")  # named, not computed, so that a stage's key can follow it
        return sys.modules[COMPILER]


def _compile_when_called() -> None:
    """Let `torch.compile` wait with a plain function until that is called; it does all else at once."""
    known = vars(sys.modules["torch"]) if "torch" in sys.modules else {}
    compile_now = known.get("compile")
    if compile_now is None or hasattr(compile_now, "__wrapped__"):
        return

    @functools.wraps(compile_now)
    def compile_later(model: Any = None, **options: Any) -> Any:
        if model is None:
            return lambda decorated: compile_later(decorated, **options)
        if not isinstance(model, FunctionType):
            return compile_now(model, **options)
        compiled = functools.cache(lambda: compile_now(model, **options))
        return functools.wraps(model)(lambda *args, **kwargs: compiled()(*args, **kwargs))

    known["compile"] = compile_later


def _shard_when_asked() -> None:
    """Let `torch.distributed.tensor` be found as an attribute without an import statement, as by those who rely on
    transformers' import of it (PEFT does)."""
    known = vars(sys.modules["torch.distributed"]) if "torch.distributed" in sys.modules else {}
    if not known or "__getattr__" in known:
        return

    def attribute(name: str) -> ModuleType:
        if name == "tensor":
            return importlib.import_module("torch.distributed.tensor")
        raise AttributeError(f"module 'torch.distributed' has no attribute {name!r}")

    known["__getattr__"] = attribute


def _switch_off() -> None:
    for place in _ASKED_IN:
        known = vars(sys.modules[place]) if place in sys.modules else {}
        known.update({switch: _absent for switch in SWITCHES if switch in known})


def _absent(*_: Any, **__: Any) -> bool:
    return False

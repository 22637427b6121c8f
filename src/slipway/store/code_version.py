"""The version of code: a digest of what a set of modules, and all that they import, would execute.

    per module:  parse -> drop what does nothing (docstrings, other bare strings, comments, layout) -> sha256 of the
                 tree
    together:    sha256 over (module, its digest), sorted, for every module of slipway that is reached

Reached is what an import statement names anywhere in a file: at its top, in a function, relative, under TYPE_CHECKING;
the packages above a module, whose `__init__` runs with it; C++ beside a module, of its name, which it compiles; and a
string that names a module (`python -m
slipway.stages.x`). What imports in a way that cannot be followed here is refused. The sections of the config are left
out: the key holds their values; a module beside them that defines none is code.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from slipway.errors import SlipwayError
from slipway.store.source_code import PACKAGE, Import, Source, analyse
from slipway.store.source_memory import known
from slipway.system.files import canonical, sha256_bytes

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "config"  # its sections are values, which the key holds; not code
_SECTION = re.compile(r"^class \w+\((Section|BaseModel)\b", re.MULTILINE)
ITSELF = "__init__"  # `from slipway import __version__`


@functools.cache
def code_digest(*modules: str, without: tuple[str, ...] = (), root: Path = ROOT) -> str:
    """The code version of `modules` (dotted, below slipway) and of all they reach in turn: sha256, hex.

    `without`: modules left out, with what only they reach. `root`: the directory of the package `slipway`.
    Raises SlipwayError for an import of slipway that has no file, and for code that is loaded in a way not understood
    here.
    """
    reach = reached(*modules, without=without, root=root)
    return sha256_bytes(canonical([(name, _read(name, root).digest, *_native(name, root)) for name in reach]))


def module_digests(*modules: str, without: tuple[str, ...] = (), root: Path = ROOT) -> dict[str, str]:
    """The first digits of what each reached module contributes to `code_digest`, by its name below slipway: they say
    which one changed."""
    reach = reached(*modules, without=without, root=root)
    return {name: sha256_bytes(canonical([_read(name, root).digest, *_native(name, root)]))[:12] for name in reach}


@functools.cache
def reached(*modules: str, without: tuple[str, ...] = (), root: Path = ROOT) -> tuple[str, ...]:
    """`modules` and every module of slipway that they reach, dotted names below slipway, sorted; see `code_digest`."""
    pending, names = list(modules), set[str]()
    while pending:
        name = pending.pop()
        if name in names or name in without or _is_section(name, root):
            continue
        names.add(name)
        pending += _packages_above(name)
        pending += [target for one in _read(name, root).imports if (target := _target(one, name, root)) is not None]
    return tuple(sorted(names))


def _is_section(name: str, root: Path) -> bool:
    """Whether a module is the room of the config or defines a section; one of that room that defines none is code."""
    if name == CONFIG:
        return True
    file = _file(name, root) if name.startswith(f"{CONFIG}.") else None
    return file is not None and _SECTION.search(file.read_text(encoding="utf-8")) is not None


def _native(name: str, root: Path) -> list[str]:
    """sha256 of the C++ beside a module, without comments (`//` to the end of a line) and layout; nothing without
    one."""
    file = root.joinpath(*name.split(".")).with_suffix(".cpp")
    if not file.is_file():
        return []
    return [sha256_bytes(" ".join(re.sub(r"//.*", "", file.read_text(encoding="utf-8")).split()).encode())]


def source_file(name: str, root: Path = ROOT) -> Path:
    """The file of `slipway.<name>`: a module's, or a package's `__init__`. Raises SlipwayError when there is none."""
    file = _file(name, root)
    if file is None:
        raise SlipwayError(
            f"import {PACKAGE}.{name}",
            "no such file",
            f"a module of {PACKAGE}",
            "reinstall slipway: its code is not complete",
        )
    return file


def _file(name: str, root: Path) -> Path | None:
    module = root.joinpath(*name.split("."))
    return next((file for file in (module.with_suffix(".py"), module / "__init__.py") if file.is_file()), None)


def _packages_above(name: str) -> list[str]:
    """`a`, `a.b` of `a.b.c`. The package slipway itself counts only where a name is imported from it: it holds the
    version."""
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def _target(one: Import, importer: str, root: Path) -> str | None:
    """The module that an import runs; None for a string that names none."""
    inside = f"{one.module}.{one.name}".strip(".")
    if one.name and one.name != "*" and _file(inside, root):
        return inside
    if one.optional and not _file(one.module, root):
        return None
    package = one.module or ITSELF
    file = source_file(package, root)
    is_package = file.name == "__init__.py"
    if one.name and one.name != "*" and is_package and one.name not in _read(package, root).names:
        raise SlipwayError(
            f"{importer}.py imports {PACKAGE}.{inside}",
            "no such file, and no such name in its package",
            f"a module of {PACKAGE}",
            "reinstall slipway: its code is not complete",
        )
    return package


def _read(name: str, root: Path) -> Source:
    file = source_file(name, root)
    is_package = file.name == "__init__.py"
    return known(analyse, file.read_text(encoding="utf-8"), name, is_package and name != ITSELF)

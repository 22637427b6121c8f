"""The version of code: a digest of what a set of modules, and all that they import, would execute.

    per module:  parse -> drop what does nothing (docstrings, other bare strings, comments, layout) -> sha256 of the
                 tree
    together:    sha256 over (module, its digest), sorted, for every module of slipway that is reached

Reached is what an import statement names anywhere in a file: at its top, in a function, relative, under TYPE_CHECKING;
the packages above a module, whose `__init__` runs with it; C++ beside a module, of its name, which it compiles; and a
string that names a module (`python -m
slipway.stages.x`). What imports in a way that cannot be followed here is refused. The sections of the config are left
out: the key holds their values.

The tree is written out without its empty fields, not with `ast.dump`: Python 3.12 and 3.13 added fields and changed
that function's text. The digests agree on 3.11, 3.12 and 3.13.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from slipway.errors import SlipwayError
from slipway.system.files import canonical, sha256_bytes

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "slipway"
CONFIG = "config"  # values, which the key holds; not code
ITSELF = "__init__"  # `from slipway import __version__`
_IGNORED_FIELDS = frozenset({"ctx", "kind", "type_comment", "type_ignores"})  # they do not change what is executed
_LOADERS = frozenset(
    {
        "import_module",
        "__import__",
        "exec",
        "eval",
        "exec_module",
        "load_module",
        "module_from_spec",
        "spec_from_file_location",
        "spec_from_loader",
        "run_module",
        "run_path",
        "SourceFileLoader",
    }
)
_BUILTIN_ONLY = frozenset({"exec", "eval", "__import__"})  # as attributes (`model.eval()`) they are something else
_MODULE_NAME = re.compile(rf"{PACKAGE}(\.[a-z_][a-z0-9_]*)+")


@dataclass(frozen=True)
class _Import:
    """`from <module> import <name>`, or `import <module>` with an empty name. Dotted, below slipway."""

    module: str
    name: str = ""
    optional: bool = False  # a string that only looks like a module


@dataclass(frozen=True)
class _Source:
    """What matters of one file: the digest of its code, what it imports of slipway, and the names it binds at its
    top."""

    digest: str
    imports: tuple[_Import, ...]
    names: frozenset[str]


@functools.cache
def code_digest(*modules: str, without: tuple[str, ...] = (), root: Path = ROOT) -> str:
    """The code version of `modules` (dotted, below slipway) and of all they reach in turn: sha256, hex.

    `without`: modules left out, with what only they reach. `root`: the directory of the package `slipway`.
    Raises SlipwayError for an import of slipway that has no file, and for code that is loaded in a way not understood
    here.
    """
    reach = reached(*modules, without=without, root=root)
    return sha256_bytes(canonical([(name, _read(name, root).digest, *_native(name, root)) for name in reach]))


@functools.cache
def reached(*modules: str, without: tuple[str, ...] = (), root: Path = ROOT) -> tuple[str, ...]:
    """`modules` and every module of slipway that they reach, dotted names below slipway, sorted; see `code_digest`."""
    pending, names = list(modules), set[str]()
    while pending:
        name = pending.pop()
        if name in names or name in without or name == CONFIG or name.startswith(f"{CONFIG}."):
            continue
        names.add(name)
        pending += _packages_above(name)
        pending += [target for one in _read(name, root).imports if (target := _target(one, name, root)) is not None]
    return tuple(sorted(names))


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


def _target(one: _Import, importer: str, root: Path) -> str | None:
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


def _read(name: str, root: Path) -> _Source:
    file = source_file(name, root)
    is_package = file.name == "__init__.py"
    return _analyse(file.read_text(encoding="utf-8"), name, is_package and name != ITSELF)


@functools.cache
def _analyse(text: str, name: str, is_package: bool) -> _Source:
    """Cached by the text: a module that several stages reach is parsed once."""
    tree = ast.parse(text)
    nodes = list(ast.walk(tree))
    _refuse_other_loaders(nodes, name)
    keeps_docstrings = any(_name_of(node) == "__doc__" for node in nodes)
    digest = sha256_bytes(_written(tree, keeps_docstrings).encode())
    package = name.split(".") if is_package else name.split(".")[:-1]
    return _Source(digest, tuple(_imports(nodes, package, name)), frozenset(_bound(tree)))


def _written(node: object, keeps_docstrings: bool) -> str:
    """A syntax tree as text: classes and fields, but for empty ones, positions, and statements that are bare
    strings."""
    if isinstance(node, ast.AST):
        fields = (
            f"{field}={_written(value, keeps_docstrings)}"
            for field, value in ast.iter_fields(node)
            if field not in _IGNORED_FIELDS and not (value is None or value == [])
        )
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        items = [item for item in _joined(node) if keeps_docstrings or not _is_bare_string(item)]
        return f"[{','.join(_written(item, keeps_docstrings) for item in items)}]"
    return repr(node)


def _joined(nodes: list[object]) -> list[object]:
    """The parts of an f-string with neighbouring texts made one and empty ones dropped: versions of Python cut them
    differently. Other lists as they are."""
    if not any(isinstance(node, ast.FormattedValue) for node in nodes):
        return nodes
    parts: list[object] = []
    for node in nodes:
        before = parts[-1] if parts else None
        if isinstance(node, ast.Constant) and isinstance(before, ast.Constant):
            parts[-1] = ast.Constant(str(before.value) + str(node.value))
        elif not (isinstance(node, ast.Constant) and node.value == ""):
            parts.append(node)
    return parts


def _is_bare_string(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imports(nodes: list[ast.AST], package: list[str], importer: str) -> Iterator[_Import]:
    """What the file imports of slipway. `package`: parts of the package, below slipway, that it lies in."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            if (module := _absolute(node, package, importer)) is not None:
                yield from (_Import(module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (
                _Import(a.name.removeprefix(f"{PACKAGE}.")) for a in node.names if a.name.startswith(f"{PACKAGE}.")
            )
            yield from (_Import("") for a in node.names if a.name == PACKAGE)
        elif isinstance(node, ast.Call) and (module := _imported_by_call(node)) and module.startswith(f"{PACKAGE}."):
            yield _Import(module.removeprefix(f"{PACKAGE}."))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _MODULE_NAME.fullmatch(node.value):
            yield _Import(node.value.removeprefix(f"{PACKAGE}."), optional=True)


def _absolute(node: ast.ImportFrom, package: list[str], importer: str) -> str | None:
    """The module of a `from` import, dotted below slipway; None when it is another library's."""
    module = node.module or ""
    if node.level == 0:
        if module == PACKAGE:
            return ""
        return module.removeprefix(f"{PACKAGE}.") if module.startswith(f"{PACKAGE}.") else None
    above = len(package) - (node.level - 1)
    if above < 0:
        raise _not_understood(importer, f"from {'.' * node.level}{module} import, which leaves the package {PACKAGE}")
    return ".".join([*package[:above], *([module] if module else [])])


def _bound(tree: ast.Module) -> Iterator[str]:
    """Names that the statements at the top of a module bind."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)
        else:
            yield from (n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))


def _refuse_other_loaders(nodes: list[ast.AST], importer: str) -> None:
    """Raise for code that is loaded by other means than an import statement or a call whose argument is the module's
    name."""
    followed = {id(node.func) for node in nodes if isinstance(node, ast.Call) and _imported_by_call(node)}
    for node in nodes:
        name = _name_of(node)
        if isinstance(node, ast.alias) and name == "import_module" and node.asname is None:
            continue  # its calls are looked at
        if name not in _LOADERS or id(node) in followed:
            continue
        if name in _BUILTIN_ONLY and isinstance(node, ast.Attribute):  # `model.eval()`
            continue
        raise _not_understood(importer, f"line {getattr(node, 'lineno', '?')}: {name}")


def _imported_by_call(node: ast.Call) -> str:
    """`x` of `importlib.import_module("x")` and `__import__("x")`; empty for other calls, computed and relative
    names."""
    if _name_of(node.func) not in ("import_module", "__import__") or len(node.args) != 1 or node.keywords:
        return ""
    argument = node.args[0]
    plain = (
        isinstance(argument, ast.Constant) and isinstance(argument.value, str) and not argument.value.startswith(".")
    )
    return str(argument.value) if plain and isinstance(argument, ast.Constant) else ""


def _name_of(node: ast.AST) -> str:
    """The last part of a name, an attribute, or an imported name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.name if isinstance(node, ast.alias) else ""


def _not_understood(importer: str, what: str) -> SlipwayError:
    return SlipwayError(
        f"code that {PACKAGE}/{importer.replace('.', '/')}.py loads",
        what,
        "an import statement, which a key can follow",
        "write it as an import, or move it out of what a stage reaches",
    )

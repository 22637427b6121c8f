"""What matters of one source file: the digest of what it would execute, what it imports of slipway, what it binds.

The tree is written out without its empty fields, not with `ast.dump`: Python 3.12 and 3.13 added fields and changed
that function's text. The digests agree on 3.11, 3.12 and 3.13.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from slipway.errors import SlipwayError
from slipway.system.files import sha256_bytes

PACKAGE = "slipway"
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
class Import:
    """`from <module> import <name>`, or `import <module>` with an empty name. Dotted, below slipway."""

    module: str
    name: str = ""
    optional: bool = False  # a string that only looks like a module


@dataclass(frozen=True)
class Source:
    """What matters of one file: the digest of its code, what it imports of slipway, and the names it binds at its
    top."""

    digest: str
    imports: tuple[Import, ...]
    names: frozenset[str]


@functools.cache
def analyse(text: str, name: str, is_package: bool) -> Source:
    """Cached by the text: a module that several stages reach is parsed once."""
    tree = ast.parse(text)
    nodes = list(ast.walk(tree))
    _refuse_other_loaders(nodes, name)
    keeps_docstrings = any(_name_of(node) == "__doc__" for node in nodes)
    digest = sha256_bytes(_written(tree, keeps_docstrings).encode())
    package = name.split(".") if is_package else name.split(".")[:-1]
    return Source(digest, tuple(_imports(nodes, package, name)), frozenset(_bound(tree)))


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


def _imports(nodes: list[ast.AST], package: list[str], importer: str) -> Iterator[Import]:
    """What the file imports of slipway. `package`: parts of the package, below slipway, that it lies in."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            if (module := _absolute(node, package, importer)) is not None:
                yield from (Import(module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (
                Import(a.name.removeprefix(f"{PACKAGE}.")) for a in node.names if a.name.startswith(f"{PACKAGE}.")
            )
            yield from (Import("") for a in node.names if a.name == PACKAGE)
        elif isinstance(node, ast.Call) and (module := _imported_by_call(node)) and module.startswith(f"{PACKAGE}."):
            yield Import(module.removeprefix(f"{PACKAGE}."))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _MODULE_NAME.fullmatch(node.value):
            yield Import(node.value.removeprefix(f"{PACKAGE}."), optional=True)


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

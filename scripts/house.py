"""The house's statistics, room by room: `python -m scripts.house [--json] [--missing]`.

Counted over the Python files of a folder. A function's lines run from its `def` to its last statement, decorators left
out; nested functions count as functions of their own. Public: no name on the way to it starts with an underscore, and
it stands in no function. Comments are counted as tokens, so a `#` in a string is none; lines are physical lines.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import statistics
import tokenize
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("tasks", "flows", "scripts", "benchmarks", "tests")
WIDTH = 120
# Identifiers that say how a value came about instead of what it is
PROSE = re.compile(r"found|told|said|insist|climb|_?own_words")
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Statistics:
    """Counts over the files of one room. `median` and `p90`: lines of a function; `comments`: per 1,000 lines."""

    room: str
    modules: int
    lines: int
    functions: int
    median: float
    p90: float
    wide: int
    undocumented: int
    comments: float
    prose: int


@dataclass(frozen=True)
class Counts:
    """What one file adds to the statistics of its room."""

    lines: int
    lengths: list[int]
    wide: int
    undocumented: int
    comments: int
    prose: int


def statistics_of(room: str, files: list[Path]) -> Statistics:
    """Count one room. Raises SyntaxError for a file that Python does not parse."""
    return together(room, [counts_of(file) for file in files])


def counts_of(file: Path) -> Counts:
    """Count one file. Raises SyntaxError when Python does not parse it."""
    lines, read = file.read_text(encoding="utf-8").splitlines(), list(tokens(file))
    return Counts(
        len(lines),
        function_lengths(file),
        sum(len(line) > WIDTH for line in lines),
        len(list(undocumented(file))),
        sum(token.type == tokenize.COMMENT for token in read),
        sum(map(is_prose, read)),
    )


def together(room: str, counted: list[Counts]) -> Statistics:
    """The statistics of a room, of what its files hold."""
    lengths, lines = sorted(n for one in counted for n in one.lengths), sum(one.lines for one in counted)
    return Statistics(
        room,
        len(counted),
        lines,
        len(lengths),
        statistics.median(lengths or [0]),
        statistics.quantiles(lengths, n=10)[-1] if len(lengths) > 1 else sum(lengths),
        sum(one.wide for one in counted),
        sum(one.undocumented for one in counted),
        round(1000 * sum(one.comments for one in counted) / max(1, lines), 1),
        sum(one.prose for one in counted),
    )


def function_lengths(file: Path) -> list[int]:
    """Lines of every function and method of a file, `def` line and docstring included."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = (node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, functions))
    return [(node.end_lineno or node.lineno) - node.lineno + 1 for node in nodes]


def undocumented(file: Path) -> Iterator[str]:
    """`path:line name` of every public module, class, function and method of a file without a docstring."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    where = file.relative_to(ROOT)
    if tree.body and not ast.get_docstring(tree):
        yield f"{where}:1 module"
    for name, node in public(tree):
        if not ast.get_docstring(node):
            yield f"{where}:{node.lineno} {name}"


def public(node: ast.Module | ast.ClassDef, inside: str = "") -> Iterator[tuple[str, Definition]]:
    """Every public class, function and method below a module or class, by its dotted name."""
    for child in node.body:
        if isinstance(child, Definition) and not child.name.startswith("_"):
            yield f"{inside}{child.name}", child
            if isinstance(child, ast.ClassDef):
                yield from public(child, f"{inside}{child.name}.")


def prose_names(file: Path) -> list[str]:
    """`path:line name` of every use of an identifier that is a verb or a participle instead of a noun (`PROSE`)."""
    return [f"{file.relative_to(ROOT)}:{token.start[0]} {token.string}" for token in tokens(file) if is_prose(token)]


def is_prose(token: tokenize.TokenInfo) -> bool:
    """Whether a token is an identifier of `PROSE`."""
    return token.type == tokenize.NAME and PROSE.fullmatch(token.string) is not None


def tokens(file: Path) -> Iterator[tokenize.TokenInfo]:
    """The tokens of a file, as Python's own tokenizer gives them."""
    with tokenize.open(file) as f:
        yield from tokenize.generate_tokens(f.readline)


def rooms() -> dict[str, list[Path]]:
    """Rooms of `src/slipway`, then the other folders; each with its Python files in order."""
    source = ROOT / "src" / "slipway"
    folders = [p.parent for p in sorted(source.glob("*/__init__.py"))]
    named = {"slipway": sorted(source.glob("*.py"))} | {f"slipway/{p.name}": sorted(p.rglob("*.py")) for p in folders}
    return named | {name: sorted((ROOT / name).rglob("*.py")) for name in FOLDERS}


def table(rows: list[Statistics]) -> str:
    """The statistics as an aligned table of text, one room a line."""
    titles = ("room", "modules", "lines", "functions", "median", "p90", "> 120", "no docstring", "# / 1000", "prose")
    cells = [titles, *(tuple(_cell(value) for value in asdict(row).values()) for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(titles))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in cells
    )


def _cell(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:,.1f}".removesuffix(".0")


def main() -> None:
    """Print the table, JSON, or what lacks a docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--missing", action="store_true", help="list public names of src/slipway without a docstring")
    parser.add_argument("--prose", action="store_true", help="list identifiers of src/slipway that are spelt as prose")
    options = parser.parse_args()
    named = rooms()
    source = [file for room, files in named.items() if room.startswith("slipway") for file in files]
    if options.missing or options.prose:
        listed = [x for file in source for x in (undocumented(file) if options.missing else prose_names(file))]
        print("\n".join(listed))
        return
    counted = {file: counts_of(file) for files in named.values() for file in files}
    rows = [
        together(room, [counted[file] for file in files]) for room, files in {**named, "src/slipway": source}.items()
    ]
    print(json.dumps([asdict(row) for row in rows], indent=1) if options.json else table(rows))


if __name__ == "__main__":
    main()

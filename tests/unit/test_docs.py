"""The documentation names tests as its proof: each of them is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(page for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    missing = []
    for file, name in NAMED.findall(page.read_text(encoding="utf-8")):
        path = ROOT / file
        names = (
            {n.name for n in ast.walk(ast.parse(path.read_text())) if hasattr(n, "name")} if path.is_file() else set()
        )
        if not path.is_file() or (name and name not in names):
            missing.append(f"{file}::{name}")
    assert missing == []


def test_the_page_of_accidents_names_a_test_for_each() -> None:
    rows = [line for line in (ROOT / "docs/what-happens-when.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 15
    assert [row for row in rows if not NAMED.search(row)] == []

"""The lock files pin what the extras name, at versions that they allow, as `scripts.lock` writes them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts import lock

ROOT = Path(__file__).resolve().parents[3]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def pins(name: str) -> dict[str, str]:
    lines = [line for line in (ROOT / name).read_text().splitlines() if "==" in line and not line.startswith("#")]
    return {package: version for package, _, version in (line.partition("==") for line in lines)}


@pytest.mark.parametrize(
    ("files", "extras"),
    [(["requirements.lock"], lock.SHIP), (["requirements.lock", "requirements-test.lock"], lock.TEST)],
)
def test_every_requirement_is_pinned_at_a_version_that_it_allows(files: list[str], extras: tuple[str, ...]) -> None:
    pinned = {package: version for name in files for package, version in pins(name).items()}
    requirements = [Requirement(text) for extra in extras for text in EXTRAS[extra]]
    assert requirements
    wrong = [
        str(one)
        for one in requirements
        if not one.specifier.contains(pinned.get(canonicalize_name(one.name), "0!0.dev0"), prereleases=True)
        or canonicalize_name(one.name) not in pinned
    ]
    assert wrong == []


def test_what_the_agents_need_is_pinned_whole() -> None:
    """The extra is installed for tests; what it needs in turn is followed, so no line is added by hand."""
    needs = lock.closure(("agents",))
    assert {"pydantic-ai-slim", "pydantic-graph", "openai", "jiter"} <= needs.keys()
    assert sorted(needs.keys() - pins("requirements.lock").keys() - pins("requirements-test.lock").keys()) == []


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-test.lock"])
def test_lines_stand_in_the_order_that_the_script_writes(name: str) -> None:
    assert list(pins(name)) == sorted(pins(name))


def test_a_lock_is_written_sorted_under_its_heading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lock.write("some.lock", {"b": "2", "a": "1.0"}, "-r other.lock\n")
    assert (tmp_path / "some.lock").read_text().splitlines()[1:] == ["-r other.lock", "a==1.0", "b==2"]

"""Write requirements.lock (what `make ship` installs) and requirements-test.lock (what `make test` adds) from this
environment.

    python -m scripts.lock

Each line is an exact version that plain pip honours. Build tags such as torch's `+cpu` are left out, so that pip takes
the build that its index offers for the machine.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

SHIP = ("data", "train", "serve", "rag", "docker", "orchestrate", "sign")
TEST = ("kubernetes", "test")
HEAD = "# Written by `python -m scripts.lock`; install with: pip install -r {name}\n"


def closure(extras: tuple[str, ...]) -> dict[str, str]:
    """Every distribution that slipway with these extras needs here, canonical name -> version."""
    versions: dict[str, str] = {}
    todo = [("slipway", frozenset(extras))]
    visited = set()
    while todo:
        name, wanted = todo.pop()
        if (name, wanted) in visited:
            continue
        visited.add((name, wanted))
        try:
            dist = distribution(name)
        except PackageNotFoundError:
            continue  # a marker or an optional need that this machine does not have
        versions[name] = dist.version.split("+")[0]
        for text in dist.requires or []:
            need = Requirement(text)
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in (*wanted, "")):
                todo.append((str(canonicalize_name(need.name)), frozenset(need.extras)))
    versions.pop("slipway")
    return versions


def write(name: str, pins: dict[str, str], head: str = "") -> None:
    """Write a lock file of exact versions under its heading."""
    lines = [f"{package}=={version}" for package, version in sorted(pins.items())]
    Path(name).write_text(HEAD.format(name=name) + head + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{name}: {len(pins)} packages")


def main() -> None:
    """Write both lock files from the packages that are installed."""
    ship, everything = closure(SHIP), closure((*SHIP, *TEST))
    write("requirements.lock", ship)
    write("requirements-test.lock", {k: v for k, v in everything.items() if k not in ship}, "-r requirements.lock\n")


if __name__ == "__main__":
    main()

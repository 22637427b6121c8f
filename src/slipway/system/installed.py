"""What is installed, read from package metadata: nothing heavy is imported."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from slipway.errors import ResourceError

VERSION = importlib.metadata.version
ON_TOP = (
    "agents",
    "chat",
    "langchain",
    "llama-index",
    "milvus",
    "rag",
)  # what stands on a served model: seldom what a command is about
# Extras that `make ship` does without: not in requirements.lock; absent is well, another version is not.
OPTIONAL_EXTRAS = ("agents", "chat", "kubernetes", "langchain", "llama-index", "milvus", "test", "nemo", "trtllm")


def extras() -> dict[str, list[Requirement]]:
    """The requirements of Slipway's extras that apply to this machine; the base install under "base"."""
    groups: dict[str, list[Requirement]] = {}
    for line in importlib.metadata.requires("slipway") or []:
        requirement = Requirement(line)
        extra = _extra(requirement)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            groups.setdefault(extra or "base", []).append(requirement)
    return groups


def wrong(requirements: list[Requirement]) -> tuple[list[str], list[str]]:
    """(missing, at another version) as `name` and `name 1.2, needs >=1.3`."""
    missing, others = [], []
    for requirement in requirements:
        try:
            version = VERSION(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(requirement.name)
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            others.append(f"{requirement.name} {version}, needs {requirement.specifier}")
    return missing, others


@contextmanager
def missing_is_named() -> Iterator[None]:
    """While the block runs, the import of a package that is not installed, but comes with an extra, is a ResourceError
    that names the extra. Any other failed import is raised as it is: a bug.
    """
    try:
        yield
    except ModuleNotFoundError as err:
        if missing := _missing(err.name or ""):
            raise missing from err
        raise


def require(*packages: str) -> None:
    """Raise the same ResourceError for the first of these packages that is not installed, without importing any."""
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:  # a folder without code, as `mlflow` of the project's root, is none
            raise _missing(package) or ResourceError(
                f"package {package}", "not installed", "it, for this command", "`pip install -r requirements.lock`"
            )


def require_extra(extra: str, *packages: str) -> None:
    """Raise a ResourceError that names this extra for the first of these packages that is not installed."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            wanted, install = f"it: it comes with the extra {extra}", f"`pip install 'slipway[{extra}]'`"
            raise ResourceError(f"package {package}", "not installed", wanted, install)


def _missing(package: str) -> ResourceError | None:
    """The error for a package that comes with an extra; None for one that does not."""
    extras_of_it = [extra for extra, requirements in _extras_or_none().items() if _lists(requirements, package)]
    extras_of_it.sort(key=lambda extra: (extra in ON_TOP, extra))
    if not extras_of_it:
        return None
    everything = "" if extras_of_it[0] in OPTIONAL_EXTRAS else ", or `pip install -r requirements.lock` for everything"
    return ResourceError(
        f"package {package}",
        "not installed",
        f"it, for this command: it comes with the extra {' or '.join(extras_of_it)}",
        f"`pip install 'slipway[{extras_of_it[0]}]'`{everything}",
    )


def _extras_or_none() -> dict[str, list[Requirement]]:
    """The extras that commands need; none where Slipway runs from a folder that was not installed."""
    try:
        return {extra: needs for extra, needs in extras().items() if extra not in ("base", "test")}
    except importlib.metadata.PackageNotFoundError:
        return {}


def _lists(requirements: list[Requirement], module: str) -> bool:
    return canonicalize_name(module) in {canonicalize_name(requirement.name) for requirement in requirements}


def torch_build() -> tuple[str, str | None] | None:
    """(version, CUDA version or None for a CPU build) of the installed torch, from its files; None without torch."""
    try:
        torch = importlib.metadata.distribution("torch")
    except importlib.metadata.PackageNotFoundError:
        return None
    file = Path(str(torch.locate_file("torch/version.py")))
    cuda = re.search(r"^cuda\b[^=]*=\s*'([^']+)'", file.read_text(encoding="utf-8"), re.MULTILINE)
    return torch.version, cuda[1] if cuda else None


def _extra(requirement: Requirement) -> str:
    match = re.search(r"extra == ['\"]([^'\"]+)", str(requirement.marker or ""))
    return match[1] if match else ""

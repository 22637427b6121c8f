"""What is installed, read from package metadata: nothing heavy is imported."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

from packaging.requirements import Requirement

VERSION = importlib.metadata.version


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


def torch_build() -> tuple[str, str | None] | None:
    """(version, CUDA version or None for a CPU build) of the installed torch, from its files; None without torch."""
    try:
        torch = importlib.metadata.distribution("torch")
    except importlib.metadata.PackageNotFoundError:
        return None
    file = Path(str(torch.locate_file("torch/version.py")))
    cuda = re.search(r"^cuda\b[^=]*=\s*'([^']+)'", file.read_text(), re.MULTILINE)
    return torch.version, cuda[1] if cuda else None


def _extra(requirement: Requirement) -> str:
    match = re.search(r"extra == ['\"]([^'\"]+)", str(requirement.marker or ""))
    return match[1] if match else ""

"""What a word of `slipway compare` names: a path, a version, an evaluation of the store, or the run of a release.

The measurement of a version is the evaluation of its candidate, the one that its verdict was reached on. A run is known
here by the releases that came of it, which record its ids; of others MLflow alone knows what they measured.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slipway.agent.paths import TargetPaths
from slipway.agent.releases import Releases
from slipway.config.load import Config
from slipway.errors import ConfigError, StateError
from slipway.ops import history
from slipway.store.artifacts import Evaluation
from slipway.store.usage import TARGETS, entries

_DIGITS = re.compile(r"[0-9a-f]{6,64}")
_RUN = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # MLflow's, Prefect's


def measurement(word: str, config: Config) -> Path:
    """Where the measurement lies. Raises ConfigError for a word that names none here, and for digits that several
    evaluations begin with; StateError for a version whose evaluation was removed."""
    if Path(word).exists():
        return Path(word)
    root = Path(config.store.root)
    named = _DIGITS.fullmatch(word) or _RUN.fullmatch(word)
    if named and (place := _evaluation(word, root) or _of_version(_engine_of_run(word, config) or word, root)):
        return place
    raise ConfigError(
        f"measurement {word[:80]}",
        f"no path, and no version, evaluation or released run of store {root}",
        "a file of `slipway bench --json`, the directory of an evaluation, digits of `slipway history`, or the id of "
        "the run that a release came of",
        "check the path, or see `slipway history`",
    )


def _evaluation(digits: str, root: Path) -> Path | None:
    """The evaluation whose digest or key begins with these digits."""
    matches = [
        entry for entry in entries(root)
        if entry.what == Evaluation.kind and (entry.digest.startswith(digits) or entry.name.startswith(digits))
    ]  # fmt: skip
    if len(matches) > 1:
        several = ", ".join(entry.name[:12] for entry in matches[:5])
        raise ConfigError(f"evaluation {digits}", f"several: {several}", "digits of one", "give more digits")
    return matches[0].path if matches else None


def _of_version(digits: str, root: Path) -> Path | None:
    """The candidate's evaluation of a version; None where no version is named so. Raises StateError where it is
    gone."""
    judged, _ = history.versions(root)
    if not history.matching(digits, judged):
        return None
    version = history.named(digits, judged)
    made = version.stages.get("evaluate")
    if made is None or not (made.path / "metrics.json").is_file():
        raise StateError(
            f"evaluation of version {version.verdict[:12]}", "not in this store", "its metrics.json", "run it again"
        )
    return made.path


def _engine_of_run(run: str, config: Config) -> str | None:
    """Digest of the engine that a run released here; None for another run."""
    for release in _releases(config):
        if run in (release.get("runs") or {}).values():
            return str(release["digests"]["engine"])
    return None


def _releases(config: Config) -> Iterator[dict[str, Any]]:
    folders = [Path(config.deploy.root).expanduser(), *sorted((Path(config.store.root) / TARGETS).glob("*"))]
    for folder in folders:
        yield from Releases(TargetPaths(folder)).records()[0].values()

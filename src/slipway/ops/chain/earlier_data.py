"""Which data of a line decides what its next run is tested on: that of the champion.

A run is compared with what serves on the same test rows, so the rows that the champion was tested on stay test rows in
every later version of the data. Three runs draw their split as the first of a line does: where nothing of the line
serves; where another `data.draw` than the champion's asks for a fresh test set; and where the champion's data are no
longer in the store, which is said.

A run on the champion's own version of the data takes what that version took, so that its key is the same and nothing
is made anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway.config.data import EarlierData
from slipway.config.gate_rows import rows_of
from slipway.config.load import Config
from slipway.deployment import state
from slipway.errors import SlipwayError, StateError
from slipway.stages.prepare import PrepareParams
from slipway.store.artifacts import MANIFEST, Dataset, Engine
from slipway.store.manifest import read_manifest
from slipway.store.store import load
from slipway.system.json_files import is_present

NOT_ROWS = ("needs", "earlier", "revision", "license")  # params that do not say which rows are split, or how


def champions_data(config: Config) -> tuple[Dataset | None, str]:
    """The data of what serves at the config's target, and a warning where they cannot be had. None where nothing of the
    config's line serves, before a target is chosen, and where the store does not hold them. Raises what the target
    raises when it cannot be asked."""
    release = state.champion(config.deploy) if config.deploy.target != "auto" else None
    if release is None or release.model != config.line:
        return None, ""
    digest = release.digests.get("dataset", "")
    data = dataset_of(Path(config.store.root), digest)
    gone = f"the data {digest[:12]} of champion {release.name} are not in store {config.store.root}"
    return data, "" if data else f"{gone}: the test split is drawn anew, and may hold rows that the champion learnt"


def champions_data_or_none(config: Config) -> Dataset | None:
    """The same for a plan, which says of a target that cannot be asked that nobody could ask it, and goes on."""
    try:
        return champions_data(config)[0]
    except SlipwayError:
        return None


def rivals_data(config: Config, candidate: Engine) -> Dataset | None:
    """The data of the release that a candidate is compared with, where a rule of the gate is on new or fixed rows; None
    where there is no such rule or release, or the store does not hold them. Raises what the target raises."""
    if config.deploy.target == "auto" or not any(row.rows for row in rows_of(config.gate)):
        return None
    release = state.rival(candidate, config.line, config.deploy)
    return dataset_of(Path(config.store.root), release.digests.get("dataset", "")) if release else None


def dataset_of(root: Path, digest: str) -> Dataset | None:
    """The dataset with this digest in the store at `root`; None where it is not there, or damaged."""
    for manifest in sorted((root / Dataset.kind).glob(f"*/{MANIFEST}")):
        try:
            if read_manifest(manifest.parent)["digest"] == digest:
                return load(Dataset, manifest.parent)
        except StateError:
            continue
    return None


def earlier_data(params: PrepareParams, champions: Dataset | None) -> EarlierData | None:
    """The data whose test rows stay those of a run with these params. `champions`: the champion's data."""
    if champions is None:
        return None
    recorded = champions.manifest["provenance"].get("params", {})
    config = recorded.get("config") if isinstance(recorded, Mapping) else None
    if not isinstance(config, Mapping) or config.get("draw", 1) != params.config.draw:
        return None
    if _same_rows(params, recorded):
        own = recorded.get("earlier")
        if not isinstance(own, Mapping):
            return None
        if is_present(Path(str(own.get("path"))) / MANIFEST):
            return EarlierData(path=str(own["path"]), digest=str(own["digest"]))
    return EarlierData(path=str(champions.path.resolve()), digest=champions.digest)


def _same_rows(params: PrepareParams, recorded: Mapping[str, Any]) -> bool:
    """Whether the recorded params split the same rows in the same way, by what a key holds of them."""
    try:
        then = PrepareParams.model_validate(recorded)
    except ValueError:  # of another version of Slipway
        return False
    one, other = (
        {name: value for name, value in each.key_document().items() if name not in NOT_ROWS} for each in (params, then)
    )
    return one == other

"""The data half belongs to DVC: bring what it makes up to date before a stage reads it."""

from __future__ import annotations

from slipway.data.dvc_lock import locked_stage_name
from slipway.errors import BusyError, DataError
from slipway.ops.commands import dvc
from tasks.provenance import ROOT


def reproduce(made: str) -> bool:
    """Run `dvc repro` of the stage that makes this file or folder of the project, and of those after it; False for a
    user's own data, which no stage of `dvc.yaml` makes.

    Raises DataError when a DVC stage fails, BusyError when another dvc command holds the repository.
    """
    stage = locked_stage_name(ROOT, ROOT / made)
    if stage is None:
        return False
    code, output = dvc(ROOT, "repro", "--downstream", stage)
    if code == 0:
        return True
    output = "\n".join(output.splitlines()[-8:])
    kind = BusyError if "acquire lock" in output else DataError
    raise kind(
        "dvc repro",
        output,
        "data up to date with dvc.yaml",
        "run `dvc repro` in the project's root and read what it says",
    )

"""What a runtime bundle is: `serve.json`, the plan of its server, beside what the server needs; what makes it valid.

A llama.cpp bundle carries its own server binary: the program that was evaluated is the program that is shipped, and a
rollback works after every cache is gone. The binary is compiled for this CPU, so the plan names the CPU that it is for.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from slipway.engines.driver import ServePlan
from slipway.engines.llamacpp.first_bundles import FirstServe, is_first
from slipway.errors import EngineError
from slipway.store.artifacts import Engine
from slipway.store.manifest import MANIFEST, read_manifest
from slipway.store.placed import placed
from slipway.store.references import resolve
from slipway.system.json_files import is_present
from slipway.system.processor import cpu_digest

SERVE = "serve.json"
MODEL = "model"  # folder of a bundle that carries the checkpoint itself


def read_plan(bundle: Path, *, here: bool = True) -> ServePlan:
    """`serve.json` of a bundle, checked; bundles of releases before there was a plan are read too.

    Raises EngineError when it is absent, malformed or names files that the bundle has not, and with `here`, for a
    bundle served on this machine, when it is for another CPU.
    """
    file = bundle / SERVE
    try:
        text = file.read_text(encoding="utf-8")
        first = is_first(json.loads(text))
        plan = FirstServe.model_validate_json(text).plan() if first else ServePlan.model_validate_json(text)
    except FileNotFoundError:
        raise EngineError(f"engine {bundle}", f"no {SERVE}", "an engine bundle", "`slipway run` makes one") from None
    except ValidationError as err:
        raise _malformed(file, str(err.errors()[0]["msg"])) from err
    except (ValueError, OSError, RecursionError) as err:
        raise _malformed(file, str(err)) from err
    _check_files(bundle, plan, here=here)
    if here and plan.cpu is not None and plan.cpu != cpu_digest():
        raise EngineError(
            f"engine {bundle}",
            f"compiled for CPU {plan.cpu}",
            f"this CPU, {cpu_digest()}",
            "`slipway run` on this machine makes one",
        )
    return plan


def bundle_path(engine: Engine | Path) -> Path:
    """An engine artifact, or a released copy of one."""
    return engine if isinstance(engine, Path) else engine.path


def model_of(bundle: Path) -> Path:
    """The checkpoint that `{model}` stands for: the one in the bundle, else the one that the bundle was made from; the
    bundle itself where neither is known, as for an engine that loads a file of the bundle.

    Raises StateError when the bundle's manifest is damaged.
    """
    if (bundle / MODEL).is_dir():
        return bundle / MODEL
    inputs = read_manifest(bundle).get("provenance", {}).get("inputs", {}) if is_present(bundle / MANIFEST) else {}
    return resolve(inputs["checkpoint"], bundle) if "checkpoint" in inputs else bundle


def _check_files(bundle: Path, plan: ServePlan, *, here: bool) -> None:
    """Files that the command names in the bundle, config files aside, are there; of a bundle that is not served `here`
    they may lie on another machine."""
    start = "{bundle}/"
    names = [argument.removeprefix(start) for argument in plan.argv if argument.startswith(start)]
    for name in names:
        if name in plan.files or (bundle / name).exists():
            continue
        there = placed(bundle)
        if there is None or name not in there.files:
            value, next_step = f"{name} is missing", "`slipway run` makes it again"
        elif here:
            value, next_step = f"{name} lies on {there.address} only", "promote it there (deploy.kind=spark)"
        else:
            continue
        raise EngineError(f"engine {bundle}", value, "a complete bundle", next_step)


def _malformed(file: Path, message: str) -> EngineError:
    return EngineError(f"engine {file}", message, "a serve config", "`slipway run` makes it again")

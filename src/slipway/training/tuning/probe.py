"""The probe process of `slipway tune`: one NeMo recipe set up once, its own training step timed under many settings.

`python -m slipway.training.tuning.probe DIR` reads `DIR/recipe.json` (a rendered recipe and the bytes it may take),
sets it up, writes `ready.json`, then answers `request-N.json` with `result-N.json` until `request-N.json` says `quit`
or none comes for `IDLE_S` seconds. Files, because they work alike for a process, a container and a Slurm job. A request
is a setting (`pack_length`, `micro_batch`, `checkpointing`, `attention`, `loss` as a recipe section) with `steps`,
`accumulate` and `best_low`.

What is timed is `_run_train_optim_step` of the recipe: forward, backward, gradient clip, optimizer. Between settings
the model stays; its checkpoint wrappers are taken off and put on by NeMo's own functions, as its setup does for one
GPU. Peaks are of the steps alone. Standard library, torch and NeMo only, so that the package can be mounted into
NVIDIA's container.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from slipway.training.tuning.step_rate import clearly_slower, rate

IDLE_S = 180.0
POLL_S = 0.02
Doc = dict[str, Any]


def main() -> None:
    folder = Path(sys.argv[1])
    document = json.loads((folder / "recipe.json").read_text())
    os.chdir(folder)  # a folder named mlflow in the working directory looks like an installed one to NeMo
    try:
        start = time.monotonic()
        from slipway.training.tuning.probe_recipe import ProbeRecipe

        imported = time.monotonic()
        recipe = ProbeRecipe(document["recipe"], document["limit_bytes"])
        ready = recipe.facts() | {"import_s": imported - start, "setup_s": time.monotonic() - imported}
    except Exception as err:  # noqa: BLE001 (whatever NeMo raises is the answer)
        traceback.print_exc()
        write(folder / "ready.json", {"error": _words(err)})
        sys.exit(1)
    write(folder / "ready.json", ready)
    serve(folder, recipe)


def serve(folder: Path, recipe: Any) -> None:
    """Answer requests in order until told to quit, or until nobody asks any more."""
    number, asked = 1, time.monotonic()
    while time.monotonic() - asked < IDLE_S:
        file = folder / f"request-{number}.json"
        if not file.exists():
            time.sleep(POLL_S)
            continue
        request = json.loads(file.read_text())
        if request.get("quit"):
            return
        write(folder / f"result-{number}.json", probe(recipe, request))
        number, asked = number + 1, time.monotonic()


def probe(recipe: Any, request: Doc) -> Doc:
    """One setting: status `ok`, `slower` (stopped early), `oom` or `error`, with what was measured until then."""
    start = time.monotonic()
    found: Doc = {"tokens": [], "seconds": []}
    try:
        recipe.apply(request)
        _timed(recipe, request, found)
    except Exception as err:  # noqa: BLE001 (a setting that dies is a row of the table)
        found |= {"status": "oom" if recipe.is_oom(err) else "error", "reason": _words(err)}
        logging.error("probe of %s\n%s", request, traceback.format_exc())  # as text: the frames hold the activations
    found |= {**recipe.peak(), "wall_s": time.monotonic() - start}
    gc.collect()
    recipe.release()
    return found


def _timed(recipe: Any, request: Doc, found: Doc) -> None:
    """One step that is not counted (kernels, allocator), then `steps`, fewer when it is clearly slower than the
    best."""
    first = time.monotonic()
    recipe.step()
    found["first_s"] = time.monotonic() - first
    found["status"] = "ok"
    for _ in range(request["steps"]):
        tokens, seconds = recipe.step()
        found["tokens"].append(tokens)
        found["seconds"].append(seconds)
        if clearly_slower(found["tokens"], found["seconds"], request["best_low"]):
            found["status"] = "slower"
            break
    measured = rate(found["tokens"], found["seconds"])
    found |= {"tokens_per_s": measured.mean, "low": measured.low, "high": measured.high}


def _words(err: BaseException) -> str:
    return f"{type(err).__name__}: {str(err).strip().splitlines()[0] if str(err).strip() else ''}"[:400]


def write(file: Path, document: Doc) -> None:
    """Whole or not at all."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(document))
    part.replace(file)


if __name__ == "__main__":
    main()

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
    """Set the recipe up in the folder named by the first argument, then serve; exits with 1 when the set-up fails."""
    folder = Path(sys.argv[1])
    document = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    os.chdir(folder)  # a folder named mlflow in the working directory looks like an installed one to NeMo
    try:
        start = time.monotonic()
        from slipway.training.tuning.probe_recipe import ProbeRecipe

        imported = time.monotonic()
        recipe = ProbeRecipe(document["recipe"], document["limit_bytes"])
        ready = recipe.facts() | {"import_s": imported - start, "setup_s": time.monotonic() - imported}
    except Exception as err:  # noqa: BLE001 (whatever NeMo raises is the answer)
        traceback.print_exc()
        write(folder / "ready.json", {"error": _first_line(err)})
        sys.exit(1)
    write(folder / "ready.json", ready)
    serve(folder, recipe)


def serve(folder: Path, recipe: Any) -> None:
    """Answer requests in order until one is `quit`, or none has come for `IDLE_S` seconds."""
    number, last_request = 1, time.monotonic()
    while time.monotonic() - last_request < IDLE_S:
        file = folder / f"request-{number}.json"
        if not file.exists():
            time.sleep(POLL_S)
            continue
        request = json.loads(file.read_text(encoding="utf-8"))
        if request.get("quit"):
            return
        write(folder / f"result-{number}.json", probe(recipe, request))
        number, last_request = number + 1, time.monotonic()


def probe(recipe: Any, request: Doc) -> Doc:
    """Time one setting; never raises for what the setting does.

    Returns `status` (`ok`, `slower` when stopped early, `oom`, `error` with a `reason`), `tokens` and `seconds` of each
    timed step, the rate with its bounds, peak bytes, and seconds of the whole probe, as far as it came.
    """
    start = time.monotonic()
    outcome: Doc = {"tokens": [], "seconds": []}
    try:
        recipe.apply(request)
        _timed(recipe, request, outcome)
    except Exception as err:  # noqa: BLE001 (a setting that dies is a row of the table)
        outcome |= {"status": "oom" if recipe.is_oom(err) else "error", "reason": _first_line(err)}
        logging.error("probe of %s\n%s", request, traceback.format_exc())  # as text: the frames hold the activations
    outcome |= {**recipe.peak(), "wall_s": time.monotonic() - start}
    gc.collect()  # an exception's traceback and its frames form a circle that holds the step's activations
    recipe.release()
    return outcome


def _timed(recipe: Any, request: Doc, outcome: Doc) -> None:
    """One step that is not counted (kernels, allocator), then `steps`, fewer when it is clearly slower than the
    best."""
    first = time.monotonic()
    recipe.step()
    outcome["first_s"] = time.monotonic() - first
    outcome["status"] = "ok"
    for _ in range(request["steps"]):
        tokens, seconds = recipe.step()
        outcome["tokens"].append(tokens)
        outcome["seconds"].append(seconds)
        if clearly_slower(outcome["tokens"], outcome["seconds"], request["best_low"]):
            outcome["status"] = "slower"
            break
    measured = rate(outcome["tokens"], outcome["seconds"])
    outcome |= {"tokens_per_s": measured.mean, "low": measured.low, "high": measured.high}


def _first_line(err: BaseException) -> str:
    return f"{type(err).__name__}: {str(err).strip().splitlines()[0] if str(err).strip() else ''}"[:400]


def write(file: Path, document: Doc) -> None:
    """Write JSON under another name and rename it, so that a reader never sees half a document."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(document), encoding="utf-8")
    part.replace(file)


if __name__ == "__main__":
    main()

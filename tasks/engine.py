"""Engine: checkpoint -> runtime bundle, tied to the hardware it was built on."""

from __future__ import annotations

from prefect.states import State

from slipway.config.engine import EngineConfig
from slipway.engines.fingerprint import engine_fingerprint
from slipway.store.artifacts import Checkpoint, Engine, Quantized
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@stage_task("engine", timeout_s=2 * HOUR, run_name="engine {of}")
def engine(run: Run, checkpoint: Checkpoint | Quantized, params: EngineConfig, of: str) -> State[Engine]:
    return run.make(
        "engine", Engine, {"checkpoint": checkpoint}, params, label=f"engine {of}", extra=engine_fingerprint(params)
    )

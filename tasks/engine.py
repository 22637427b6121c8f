"""Engine: checkpoint -> runtime bundle, tied to the hardware it was built on."""

from __future__ import annotations

from prefect.states import State

from slipway.ops.chain import calls
from slipway.store.artifacts import Checkpoint, Engine, Quantized
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@stage_task("engine", timeout_s=2 * HOUR, run_name="engine {of}")
def engine(run: Run, checkpoint: Checkpoint | Quantized, of: str) -> State[Engine]:
    """The bundle that serves this checkpoint. `of`: base, merged or candidate."""
    return run.make(calls.engine(run.config, checkpoint, of, run.machine))

"""Agents on served models, by the end states of their tasks."""

from __future__ import annotations

from prefect.states import State

from slipway.ops.chain import calls
from slipway.store.artifacts import Dataset, Engine, Evaluation
from tasks.run import Run
from tasks.stage_task import HOUR, stage_task


@stage_task("agent-eval", timeout_s=4 * HOUR, run_name="agent-eval {of}")
def agent_eval(run: Run, engine: Engine, data: Dataset, of: str) -> State[Evaluation]:
    """What an agent on this engine makes of its tasks. `of`: candidate or champion."""
    return run.make(calls.agent_eval(run.config, engine, data, of))


def agent_evals(run: Run, candidate: Engine, champion: Engine | None, data: Dataset) -> dict[str, Evaluation]:
    """Those of the candidate and the champion, as the gate names them; none where `agent.kind` is off."""
    if run.config.agent.kind == "off":
        return {}
    sides = {"agent": agent_eval(run, candidate, data, "candidate")}
    return sides | ({"agent_champion": agent_eval(run, champion, data, "champion")} if champion else {})

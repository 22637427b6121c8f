"""Stage `agent_eval`: an agent on a served model, by the end states of its tasks.

Tasks are made of the test rows, whose templates were held out of training, or are given as a file. Each gets a home of
its own in a state drawn from its seed; the agent asks the engine's OpenAI-compatible endpoint; an evaluation that was
interrupted goes on where it stopped. The engine is started as `evaluate` starts it.
"""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from slipway.agents.home import HomePlan, read_plan
from slipway.agents.intents import tools_digest
from slipway.agents.making import agents_at
from slipway.agents.task_templates import tasks_of
from slipway.agents.tasks import Task, read_tasks, tasks_in, write_tasks
from slipway.config.agent import AgentConfig
from slipway.data.rows import read_rows
from slipway.engines.serving import CARRIERS
from slipway.engines.stage_serving import ServingParams, bundle_server, serving_keys
from slipway.evaluation.agent_run import run_tasks
from slipway.evaluation.agent_tasks import summarize, write_evaluation
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Dataset, Engine, Evaluation
from slipway.system.files import write_atomic

if TYPE_CHECKING:
    from slipway.config.load import Config

OUTPUT = Evaluation
CODE_WITHOUT = CARRIERS
PARTIAL = "tasks.partial.jsonl"
FRAMEWORK = "pydantic-ai-slim"
_NOT_KEYED = {"home", "tasks_file"}


class AgentEvalParams(ServingParams, AgentConfig):
    """What the stage needs: the config's section with its files read."""

    home_plan: str = Field(description="The home in agent.home, as JSON.")
    given_tasks: str | None = Field(None, description="The tasks in agent.tasks_file.")
    timeout_s: float = Field(120, gt=0, description="evaluate.timeout_s.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="evaluate.confidence.")

    def key_document(self) -> dict[str, Any]:
        """What files hold and not where they lie."""
        return {name: value for name, value in super().key_document().items() if name not in _NOT_KEYED}


def params_of(config: Config) -> AgentEvalParams:
    """This stage's params in a run. Raises ConfigError for a home, DataError for tasks that cannot be read."""
    section, tasks = config.agent, None
    plan = read_plan(Path(section.home) if section.home else None)
    if section.tasks_file:
        tasks = write_tasks(read_tasks(Path(section.tasks_file), plan))
    return AgentEvalParams(
        **section.model_dump(),
        home_plan=plan.model_dump_json(),
        given_tasks=tasks,
        timeout_s=config.evaluate.timeout_s,
        confidence=config.evaluate.confidence,
        **serving_keys(config),
    )


def key_extra(params: AgentEvalParams) -> dict[str, str]:
    """What the tools say, and the framework that drives kind `tools`, by its version."""
    return {"tools": tools_digest(), **({"framework": _framework()} if params.kind == "tools" else {})}


def _framework() -> str:
    try:
        return f"{FRAMEWORK} {version(FRAMEWORK)}"
    except PackageNotFoundError:
        return "none"  # the stage will name what is missing


def agent_eval(engine: Engine, data: Dataset, params: AgentEvalParams, space: Workspace) -> None:
    """Write `items.jsonl`, `traces.jsonl`, `tasks.jsonl`, `metrics.json` and `summary.json`.

    Raises DataError for rows that are no commands of a home, ConfigError for a server without tools (kind `tools`),
    EngineError when the engine dies or does not answer.
    """
    plan = HomePlan.model_validate_json(params.home_plan)
    tasks = _tasks(params, data, plan)
    with (
        bundle_server(engine.path, params, space) as endpoint,
        agents_at(endpoint.url, endpoint.model, params, params.timeout_s) as agent_in,
    ):
        slots, partial = endpoint.plan.limits.slots, space.work / PARTIAL
        items, traces = run_tasks(tasks, plan, agent_in, slots, partial, space.progress)
    metrics = summarize(tasks, items, params.confidence)
    write_evaluation(space.out, items, traces, metrics)
    write_atomic(space.out / "tasks.jsonl", write_tasks(tasks))
    figures = {m["name"]: round(m["value"], 4) for m in metrics["metrics"] if m["value"] is not None}
    write_atomic(space.out / "summary.json", json.dumps({"tasks": len(tasks), **figures}, indent=1) + "\n")


def _tasks(params: AgentEvalParams, data: Dataset, plan: HomePlan) -> list[Task]:
    if params.given_tasks is not None:
        return tasks_in(params.given_tasks, "agent.tasks_file", plan)
    return tasks_of(list(read_rows(data.path / "test.jsonl")), plan, params.tasks)

"""The Prefect task of a stage: its options, what is retried, and how its caller gets the artifact."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import State

from slipway.errors import SlipwayError
from slipway.system.redact import masked_errors
from tasks.run import Run

P = ParamSpec("P")
A = TypeVar("A")
MINUTE, HOUR = 60, 3600


def infrastructure_error(_task: Any, _task_run: Any, state: State[Any]) -> bool:
    """Retry what another attempt may cure: a died stage or engine, a lost connection. Never bad input, a failed gate or
    a machine that lacks something."""
    error = state.data
    return error.exit_code == 5 if isinstance(error, SlipwayError) else isinstance(error, OSError)


def stage_task(
    name: str,
    *,
    timeout_s: float,
    run_name: str | None = None,
    retries: int = 1,
    longer_s: Callable[[Run], float] = lambda _: 0.0,
) -> Callable[[Callable[Concatenate[Run, P], State[A]]], Callable[Concatenate[Run, P], A]]:
    """A Prefect task whose caller gets the artifact, and whose state may be `Cached`.

    A task that returns a State hands that State to its caller; the wrapper opens it, and raises what the task raised.
    `longer_s`: seconds that a run's config adds to the time limit.
    """

    def wrap(function: Callable[Concatenate[Run, P], State[A]]) -> Callable[Concatenate[Run, P], A]:
        prefect_task = task(
            name=name,
            task_run_name=run_name or name,
            timeout_seconds=timeout_s,
            cache_policy=NO_CACHE,
            retries=retries,
            retry_delay_seconds=10,
            retry_condition_fn=infrastructure_error,
        )(masked_errors()(function))

        @functools.wraps(function)
        def call(run: Run, *args: P.args, **kwargs: P.kwargs) -> A:
            more = longer_s(run)
            limited = prefect_task.with_options(timeout_seconds=timeout_s + more) if more else prefect_task
            return limited(run, *args, **kwargs, return_state=True).result()  # type: ignore[no-any-return]

        return call

    return wrap

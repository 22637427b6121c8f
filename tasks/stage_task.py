"""The Prefect task of a stage: its options, what is retried, and how its caller gets the artifact."""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import State

from slipway.errors import SlipwayError
from slipway.system.redact import masked_errors
from tasks.run import Run

P = ParamSpec("P")
A = TypeVar("A")
MINUTE, HOUR = 60, 3600
RETRY_DELAY_S = 10
CUT = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ESTALE, errno.EAGAIN)


def is_transient(error: object) -> bool:
    """Whether another attempt may cure it: our errors say so themselves (`SlipwayError.transient`), of the operating
    system's it is a cut or refused connection. Not a stage that took longer than its limit: it would again."""
    if isinstance(error, SlipwayError):
        return error.transient
    return isinstance(error, OSError) and (isinstance(error, ConnectionError) or error.errno in CUT)


def _retried(_task: Any, _task_run: Any, state: State[Any]) -> bool:
    return is_transient(state.data)


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
            retry_delay_seconds=RETRY_DELAY_S,
            retry_condition_fn=_retried,
        )(masked_errors()(function))

        def call(run: Run, /, *args: P.args, **kwargs: P.kwargs) -> A:
            more = longer_s(run)
            limited = prefect_task.with_options(timeout_seconds=timeout_s + more) if more else prefect_task
            state: Any = limited(run, *args, **kwargs, return_state=True)
            return cast("A", state.result())

        functools.update_wrapper(call, function)
        return call

    return wrap

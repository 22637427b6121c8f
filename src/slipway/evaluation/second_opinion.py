"""Which is wrong, the weights or a kernel? The engine's other attention kernel is asked the same, and judged alike.

Where the first kernel fails and the second passes, the kernel is at fault and the setting of the second is the way out;
where both fail, the weights, or what both kernels share. With `second: always` a sound engine is asked by both, and the
second's figures lie beside the first's; they decide nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from slipway.config.engine import AgreementConfig
from slipway.engines.second_backend import second_backend
from slipway.engines.serving import Service, serving
from slipway.errors import EngineError, ResourceError
from slipway.evaluation.agreement_check import Agreeing

Doc = dict[str, Any]


def verdict_with_second(
    agreeing: Agreeing, service: Service, params: AgreementConfig, note: Callable[[str], object]
) -> Doc:
    """The verdict on what the engine of `service` answered, which has ended; under `second_backend` what its other
    kernel got, where that was asked. Raises EngineError as `Agreeing.verdict`, then with the second's word."""
    other = second_backend(service.plan) if params.second != "off" else None
    try:
        verdict = agreeing.verdict()
    except EngineError as err:
        if other is None:
            raise
        setting, plan = other
        note(f"kernel agreement failed; asking the other attention kernel: {setting}")
        raise _joined(err, setting, _asked(agreeing, replace(service, plan=plan))) from err
    if other is None or params.second != "always" or "refused" in verdict:
        return verdict
    setting, plan = other
    note(f"kernel agreement passed; asking the other attention kernel too: {setting}")
    return {**verdict, "second_backend": {"setting": setting, **_asked(agreeing, replace(service, plan=plan))}}


def _asked(agreeing: Agreeing, service: Service) -> Doc:
    """Figures of one more server, cold and in a folder of its own, or under `refused` why there are none."""
    try:
        second = agreeing.of(service.plan)
        with serving(replace(service, work=service.work.parent / "second", cache=None, fill_cache=None)) as endpoint:
            second.ask(endpoint.url)
        return second.figures()
    except (EngineError, ResourceError) as err:
        return {"refused": str(err)}


def _joined(err: EngineError, setting: str, second: Doc) -> EngineError:
    """The first kernel's error, with what the second one's figures say of the cause."""
    if "refused" in second:
        hint = f"{err.next_step}; with {setting} there is no second opinion: {second['refused']}"
    elif second["outcome"] == "pass":
        hint = (
            f"the weights are right: with {setting} the engine agrees with them, ratio {second['ratio']:.3g}; the "
            "first attention kernel is wrong for this model or GPU: serve with that setting, or take another version"
        )
    else:
        ratio = f"ratio {second['ratio']:.3g}"
        hint = f"with {setting} it is off as well, {ratio}: not the attention kernel; {err.next_step}"
    return EngineError(err.thing, err.value, err.expected, hint)

"""finetune-and-ship: the whole chain, one line a stage. A stage whose inputs, params and code are unchanged is
reused."""

from __future__ import annotations

import sys
from typing import Annotated, Any

from prefect import flow
from prefect.states import Completed, State

from flows.command import attempt, form_of_conf, parser
from slipway.config.form import ConfigForm, OverridesForm
from slipway.config.load import Config, load_config
from tasks.agent_eval import agent_evals
from tasks.answer_eval import answer_evals
from tasks.decide import answered, decide, tell
from tasks.engine import engine
from tasks.evaluate import evaluate
from tasks.fetch import fetch
from tasks.gate import gate, wants_more_items
from tasks.merge import merge
from tasks.parameters import CONF, resolved
from tasks.pipeline import pipeline, shipped_name
from tasks.plan import show_plan
from tasks.prepare import prepare
from tasks.promote import promote
from tasks.quantize import quantize
from tasks.reference import reference, reference_plan
from tasks.report import report
from tasks.retrieval import champion_search, retrieval
from tasks.rivals import best_release, rival, since_champion
from tasks.superseded import superseded
from tasks.train import train

FORM = form_of_conf(CONF, is_main=__name__ == "__main__")  # what the form in the Prefect UI shows


@flow(name="finetune-and-ship")
def finetune_and_ship(
    config: Annotated[Any, ConfigForm(FORM)] = FORM, overrides: Annotated[Any, OverridesForm()] = ()
) -> State[None]:
    """Fine-tune, merge, quantize, build engines, evaluate them as served, gate, promote.

    Args:
        config: A partial config: what it names wins over conf/ and its layers, all else is as conf/ says.
        overrides: More of it as on the command line: train.epochs=2, layers.quantize=formats/fp8, layers=smoke.
    """
    config = resolved(config, overrides)
    if reason := superseded():
        return Completed(name="Superseded", message=reason)
    return chain(config)


def chain(config: Config) -> State[None]:
    """The stages of one run of `config`, to its final state: Kept, Cached or Completed."""
    with pipeline(config, shipped_name(config)) as run:
        run.plan = show_plan(run.config)
        base = fetch(run)
        data = prepare(run, base)
        retrieved = retrieval(run)
        adapter = train(run, base, data)
        merged = merge(run, base, adapter)
        quantized = quantize(run, merged, data)

        plan = reference_plan(run, base, data)
        candidate = engine(run, quantized, of="candidate")

        def judged(look: int) -> tuple[dict[str, Any], Any]:
            """Every side evaluated, and the verdict on them. The first look is at evaluate.max_items test rows, the
            second at all."""
            on = run if look == 1 else run.on_all_items()
            streamed = reference(on, merged, quantized, data, plan) if plan.streamed else None
            quality = {}
            if plan.served:
                quality["base"] = evaluate(on, engine(run, base, of="base"), data, None, of="base", speed=False)
            unquantized = engine(run, merged, of="merged") if plan.served else None
            quality["merged"] = evaluate(on, unquantized, data, streamed, of="merged", speed=True)
            quality["candidate"] = evaluate(on, candidate, data, streamed, of="candidate", speed=True)
            if champion := rival(run, candidate):
                quality["champion"] = evaluate(on, champion, data, None, of="champion", speed=True)
            if best := best_release(run, candidate):
                quality["best"] = evaluate(on, best, data, None, of="best", speed=False)
            agents = agent_evals(run, candidate, champion, data)
            searched = champion_search(run, candidate, retrieved)
            answers = answer_evals(run, candidate, champion, retrieved)
            beside = {**agents, **(retrieved.sides if retrieved else {}), **searched, **answers}
            return quality, gate(run, {**quality, **beside}, quantized, candidate, data, look)

        quality, verdict = judged(look=1)
        if wants_more_items(verdict):
            quality, verdict = judged(look=2)
        since_champion(run, candidate, data, quality)
        decided = decide(run, candidate, verdict)
        documents = report(run, candidate, verdict, adapter, quality, decided)
        tell(run, decided)
        decided = answered(run, decided, config.deploy)
        promote(run, candidate, verdict, data, documents, decided, config.deploy)
    if run.summary.kept:
        return Completed(name="Kept", message=run.summary.kept)
    if run.summary.all_reused():
        return Completed(name="Cached", message="every stage was reused and this engine serves already")
    endpoint = run.summary.endpoint
    return Completed(message=f"serving at {endpoint}" if endpoint else "nothing serves: `slipway promote` starts one")


if __name__ == "__main__":
    arguments = parser("Run finetune-and-ship.")
    arguments.add_argument("overrides", nargs="*", help="section.key=value")
    given = arguments.parse_args()
    sys.exit(attempt(lambda: load_config(given.conf, given.overrides), finetune_and_ship, as_json=given.json))

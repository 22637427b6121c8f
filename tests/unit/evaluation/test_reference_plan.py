"""Which way the merge is measured: what is asked for, what fits, and the sentence that says so."""

import re

import pytest

from slipway.config.engine import EngineConfig
from slipway.config.evaluate import EvaluateConfig
from slipway.evaluation.reference_plan import reference_plan
from slipway.planning.serving_memory import serving_memory
from tests.support.pico import pico_model

ENGINE = EngineConfig(slots=2, context=256)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return pico_model(tmp_path_factory.mktemp("base") / "model", layers=1)


@pytest.mark.parametrize(
    ("asked", "served", "streamed"),
    [("served", True, False), ("streamed", False, True), ("both", True, True)],
)
def test_what_is_asked_for_is_done_whatever_fits(tmp_path, asked, served, streamed):
    plan = reference_plan(EvaluateConfig(reference=asked), ENGINE, tmp_path / "absent", 1.0, free_text=True)
    assert (plan.served, plan.streamed, plan.required) == (served, streamed, streamed)
    assert plan.why == f"evaluate.reference={asked}"


@pytest.mark.parametrize(
    ("room", "free_text", "served", "streamed", "why"),
    [
        (1.2, False, True, False, "is served: "),
        (1.2, True, True, True, "is served and streamed: .*free text"),
        (0.9, False, False, True, "is streamed: .*do not fit"),
        (0.9, True, False, True, "is streamed: .*do not fit.*free text"),
    ],
)
def test_auto_serves_what_fits_and_streams_the_rest_and_free_text(base, room, free_text, served, streamed, why):
    need = serving_memory(base, slots=2, context=256).total
    plan = reference_plan(EvaluateConfig(), ENGINE, base, room * need / 0.85, free_text=free_text)
    assert (plan.served, plan.streamed, plan.required) == (served, streamed, False)
    assert re.search(why, plan.why) and "overrides" in plan.why


def test_a_model_whose_cache_is_not_known_is_streamed_and_says_so(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "novel", "hidden_size": 8, "vocab_size": 8}')
    plan = reference_plan(EvaluateConfig(), ENGINE, tmp_path, 1e12, free_text=False)
    assert (plan.served, plan.streamed) == (False, True)
    assert re.search("cannot tell: model_type 'novel'.*overrides", plan.why)

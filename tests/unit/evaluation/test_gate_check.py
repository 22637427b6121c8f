"""What a gate may name, before any work."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.config.evaluate import EvaluateConfig
from slipway.config.gate import GateConfig
from slipway.errors import ConfigError
from slipway.evaluation.gate_check import check_gate
from slipway.pipeline.stage import STAGES, stage_spec
from slipway.store.code_version import reached


def test_no_stage_reaches_it_and_no_evaluation_the_rows_of_the_gate() -> None:
    assert not [name for name in STAGES if "evaluation.gate_check" in reached(*stage_spec(name).code)]
    assert [name for name in STAGES if "config.gate_rows" in reached(*stage_spec(name).code)] == ["gate"]


@pytest.mark.parametrize(
    ("gate", "evaluate", "words"),
    [
        ({"floors": {"exact_match": 0.5}}, {}, r"gate\.floors\.exact_match: no metric 'exact_match'.*primary, exact"),
        ({"floors": {"chrff": 0.5}}, {}, "did you mean chrf"),
        ({"floors": {"chrf": 0.5}}, {"metrics": ["exact"]}, "one of primary, exact, log_likelihood"),
        (
            {"non_inferiority": [{"against": "base", "metric": "bleu", "margin": 0.1}]},
            {},
            r"gate\.non_inferiority\.0\.metric: no metric 'bleu'",
        ),
    ],
)
def test_a_gate_on_what_is_not_measured_is_refused_before_any_work(gate: Any, evaluate: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_gate(GateConfig(**gate), EvaluateConfig(**evaluate))


def test_a_gate_may_name_what_is_asked_for_streamed_or_primary() -> None:
    floors = {"rouge_l": 0.1, "primary": 0.1, "log_likelihood": -3.0, "kl_from_merge": 0.1}
    check_gate(GateConfig(floors=floors), EvaluateConfig(metrics=["rouge_l"]))


def test_a_gate_without_a_rule_for_a_first_release_is_refused_before_any_work() -> None:
    off = {"max_verbosity": None, "max_cut_off": None, "max_repetition": None}
    champion = [{"against": "champion", "metric": "primary", "margin": 0.1}]
    for gate in (off, {**off, "non_inferiority": champion}):
        with pytest.raises(ConfigError, match="no rule for a first release"):
            check_gate(GateConfig.model_validate(gate), EvaluateConfig())
    check_gate(GateConfig.model_validate({**off, "floors": {"primary": 0.5}}), EvaluateConfig())
    of_agents = GateConfig(floors={"agent_success": 0.5})
    check_gate(of_agents, EvaluateConfig(), ["agent_success"])
    with pytest.raises(ConfigError, match="evaluates an agent"):
        check_gate(of_agents, EvaluateConfig())
    of_retrieval = GateConfig(floors={"rag_recall": 0.5, "agent_success": 0.5})
    with pytest.raises(ConfigError, match="evaluates retrieval"):
        check_gate(of_retrieval, EvaluateConfig(), ["agent_success"])
    with pytest.raises(ConfigError, match="did you mean rag_recall"):
        check_gate(GateConfig(floors={"rag_recal": 0.5}), EvaluateConfig(), ["rag_recall"])
    check_gate(of_retrieval, EvaluateConfig(), ["agent_success", "rag_recall"])
    merged = [{**champion[0], "against": "merged"}]
    check_gate(GateConfig.model_validate({**off, "non_inferiority": merged}), EvaluateConfig())


def test_new_rows_are_asked_of_metrics_of_test_rows_only() -> None:
    row = {"rule": "non_inferiority", "against": "champion", "margin": 0.1, "rows": "new"}
    gate = GateConfig.model_validate({"floors": {"json_exact": 0}, "rules": [{**row, "metric": "agent_success"}]})
    with pytest.raises(
        ConfigError, match=r"gate\.rules\.0\.rows: new for agent_success; expected a metric of test rows"
    ):
        check_gate(gate, EvaluateConfig(), ["agent_success"])
    with pytest.raises(ValueError, match="the rule is against it, not merged"):
        GateConfig.model_validate({"rules": [{**row, "metric": "primary", "against": "merged"}]})
    with pytest.raises(ValueError, match="rule floor takes metric, limit, not rows"):
        GateConfig.model_validate({"rules": [{"rule": "floor", "metric": "primary", "limit": 0.1, "rows": "new"}]})
    both = {"rules": [{**row, "metric": "primary"}, {**row, "metric": "primary", "rows": "fixed"}]}
    assert len(GateConfig.model_validate(both).rules) == 2
    with pytest.raises(ValueError, match="the same rule"):
        GateConfig.model_validate({"rules": [{**row, "metric": "primary"}] * 2})

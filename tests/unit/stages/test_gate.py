import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml

from slipway.agents import tools
from slipway.agents.attempts import attempt
from slipway.agents.home import Home
from slipway.agents.intents_agent import IntentsAgent
from slipway.agents.tasks import Task, TaskTurn, with_expected
from slipway.config.agent import AgentConfig
from slipway.config.gate import GateConfig
from slipway.config.load import parse
from slipway.config.target import TargetConfig
from slipway.errors import ConfigError, DataError, GateError
from slipway.evaluation.agent_tasks import score, summarize, write_evaluation
from slipway.evaluation.gate_rules import require_pass, wants_more_items
from slipway.evaluation.metric import Metric, aggregate, read_items
from slipway.evaluation.multiplicity import look_alpha
from slipway.evaluation.statistics import paired_difference
from slipway.evaluation.streamed_metrics import add_streamed, unanswered
from slipway.pipeline.stage import stage_spec
from slipway.pipeline.workspace import Workspace
from slipway.rag.answer_metrics import Answered, Asked
from slipway.rag.answer_metrics import score as answer_score
from slipway.rag.answer_metrics import summarize as answer_summary
from slipway.rag.answer_prompt import Passage
from slipway.rag.span_metrics import NAMES
from slipway.stages.gate import GateParams, gate, params_of
from slipway.store.artifacts import (
    Artifact,
    Choice,
    Dataset,
    Engine,
    Evaluation,
    Quantized,
    ReferenceScores,
    Retrieval,
    Verdict,
)
from slipway.store.store import Store, load
from slipway.system.progress import Progress
from tests.support.commands import SMALL, by_text, timer
from tests.support.tables import chat

FLOORS = {"json_exact": 0.8}


def evaluation(store: Store, key: str, right: str, ids: list[str] | None = None) -> Evaluation:
    """One character an item: `1` all right, `i` label only, `0` wrong."""
    rows = [
        {
            "id": i,
            "answer": c,
            "expected": "1",
            "finish": "stop",
            "metrics": {"json_exact": c == "1", "label_accuracy": c in "1i"},
        }
        for i, c in zip(ids or [f"t{n}" for n in range(len(right))], right, strict=True)
    ]
    declared = [Metric("json_exact", "exact JSON"), Metric("label_accuracy", "label accuracy")]
    metrics = {"n": len(rows), "metrics": [aggregate(metric, rows, 0.95) for metric in declared]}
    metrics |= {"finish": {"stop": len(rows)}, "answer_tokens": 1.0, "long_answers": 0, "repeated_8grams": None}
    with store.create(Evaluation, key, {}) as out:
        (out / "items.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        (out / "metrics.json").write_text(json.dumps(metrics))
    return load(Evaluation, store.dir("evaluation", key))


def judge(
    tmp_path: Path,
    params: GateParams,
    bits: float | None = 4.5,
    ids: list[str] | None = None,
    starts: dict[str, float] | None = None,
    agents: Mapping[str, Artifact] = MappingProxyType({}),
    **right: str,
) -> Verdict:
    store = Store(tmp_path / "store")
    made = {k: evaluation(store, k, v, ids if k == "merged" else None) for k, v in right.items()}
    with store.create(Quantized, "q", {}) as out:
        (out / "summary.json").write_text(json.dumps({} if bits is None else {"bits_per_parameter": bits}))
    quantized = load(Quantized, store.dir("quantized", "q"))
    engine = None
    if starts:
        with store.create(Engine, "e", {}) as out:
            (out / "summary.json").write_text(json.dumps(starts))
        engine = load(Engine, store.dir("engine", "e"))
    with store.create(Verdict, "v", {}) as out:
        space = Workspace(out, tmp_path, tmp_path, Progress())
        sides = made["candidate"], made["merged"], made["base"], made.get("champion")
        gate(*sides, quantized, engine, params, space, made.get("best"), **agents)
    return load(Verdict, store.dir("verdict", "v"))


def rules(**fields: Any) -> GateParams:
    """Rules for hand-made items: any number of them decides, and none looks at the answers."""
    off = {"max_verbosity": None, "max_cut_off": None, "max_repetition": None, "tie": "promote"}
    return GateParams.model_validate({"min_items": 1, **off, **fields})


def dataset(store: Store, key: str, train: list[str], test: list[str]) -> Dataset:
    """Rows by what they ask; ids are t0, t1, ..., as `evaluation` has them."""
    with store.create(Dataset, key, {}) as out:
        for name, asks in (("train", train), ("val", []), ("test", test)):
            rows = [{"id": f"t{n}", "label": "a", "template": ask, **chat(ask)} for n, ask in enumerate(asks)]
            (out / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load(Dataset, store.dir("dataset", key))


def test_a_row_decides_on_new_rows_by_themselves(tmp_path: Path) -> None:
    """Fifty fixed rows on which both are right, ten new ones that only the champion gets: on all the loss is under the
    margin, on the new ones it is not."""
    store = Store(tmp_path / "store")
    old, new = [f"old {n}" for n in range(50)], [f"new {n}" for n in range(10)]
    sides = {
        "data": dataset(store, "now", ["x"], [*new, *old]),
        "champion_data": dataset(store, "then", ["y"], old[::-1]),
    }
    row = {"rule": "non_inferiority", "metric": "json_exact", "against": "champion", "margin": 0.3}
    params = rules(rules=[row, {**row, "rows": "new"}, {**row, "rows": "fixed"}])
    answers = {"candidate": "0" * 10 + "1" * 50, "champion": "1" * 60, "merged": "1" * 60, "base": "0" * 60}
    document = judge(tmp_path, params, agents=sides, **answers).read_json("verdict.json")
    judged = {one["against"]: one for one in document["rules"]}
    assert {name: (one["outcome"], one["items"]) for name, one in judged.items()} == {
        "champion": ("pass", 60),
        "champion on new rows": ("fail", 10),
        "champion on fixed rows": ("pass", 50),
    }
    assert judged["champion on new rows"]["reason"].startswith("on 10 new test rows json_exact differs from champion")
    assert document["outcome"] == "fail"


def test_without_the_champions_data_nobody_knows_which_rows_are_new(tmp_path: Path) -> None:
    row = {"rule": "non_inferiority", "metric": "json_exact", "against": "champion", "margin": 0.5, "rows": "new"}
    answers = {"candidate": "1" * 40, "champion": "1" * 40, "merged": "1" * 40, "base": "0" * 40}
    document = judge(tmp_path, rules(rules=[row]), **answers).read_json("verdict.json")
    (rule,) = document["rules"]
    assert (rule["outcome"], rule["items"]) == ("inconclusive", 0) and "not in the store" in rule["reason"]


def test_where_no_test_row_is_new_the_rule_is_skipped(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    asks = [f"row {n}" for n in range(40)]
    data = {"data": dataset(store, "now", ["x"], asks), "champion_data": dataset(store, "then", ["y"], asks)}
    row = {"rule": "non_inferiority", "metric": "json_exact", "against": "champion", "margin": 0.5}
    answers = {"candidate": "1" * 40, "champion": "1" * 40, "merged": "1" * 40, "base": "0" * 40}
    verdict = judge(tmp_path, rules(rules=[row, {**row, "rows": "new"}]), agents=data, **answers)
    document = verdict.read_json("verdict.json")
    assert document["skipped"][0] == "json_exact against champion on new rows: there is none"
    assert document["outcome"] == "pass"


def against(reference: str, margin: float, metric: str = "json_exact") -> dict[str, Any]:
    return {"against": reference, "metric": metric, "margin": margin}


def test_a_good_first_candidate_passes_on_floors_alone(tmp_path: Path) -> None:
    params = rules(floors=FLOORS, non_inferiority=[against("champion", 0.05)])
    verdict = judge(tmp_path, params, candidate="1" * 90 + "0" * 10, merged="1" * 90 + "0" * 10, base="0" * 100)
    doc = verdict.read_json("verdict.json")
    assert doc["outcome"] == "pass"
    assert [r["rule"] for r in doc["rules"]] == ["floor"]
    assert doc["skipped"] == ["json_exact against champion: there is none yet"]
    require_pass(verdict)


@pytest.mark.parametrize(
    ("starts", "outcome"),
    [
        ({"warm_starts": 3, "warm_start_s": 70.0}, "pass"),
        ({"warm_starts": 3, "warm_start_s": 99.0}, "fail"),
        (None, "inconclusive"),
    ],
)
def test_a_slow_warm_start_fails(tmp_path: Path, starts: dict[str, float] | None, outcome: str) -> None:
    params = rules(max_warm_start_s=90)
    sides = dict.fromkeys(("candidate", "merged", "base"), "1" * 20)
    assert judge(tmp_path, params, starts=starts, **sides).read_json("verdict.json")["outcome"] == outcome


def test_a_floor_is_on_the_point_estimate(tmp_path: Path) -> None:
    """80 of 100 reach 0.80 although the interval starts at 0.71."""
    verdict = judge(tmp_path, rules(floors=FLOORS), candidate="1" * 80 + "0" * 20, merged="1" * 100, base="0" * 100)
    (rule,) = verdict.read_json("verdict.json")["rules"]
    assert rule["outcome"] == "pass"
    assert rule["low"] < 0.8
    assert "point estimate" in rule["reason"]


def test_a_missed_floor_fails_and_names_the_figures(tmp_path: Path) -> None:
    verdict = judge(tmp_path, rules(floors=FLOORS), candidate="1" * 79 + "0" * 21, merged="1" * 100, base="0" * 100)
    with pytest.raises(
        GateError, match=r"fail: json_exact 0\.790 \(point estimate\) is below the floor 0\.800"
    ) as raised:
        require_pass(verdict)
    assert raised.value.exit_code == 3


@pytest.mark.parametrize(
    ("lost", "n", "outcome"),
    [(0, 100, "pass"), (3, 400, "pass"), (4, 60, "inconclusive"), (30, 100, "fail")],
)
def test_non_inferiority_has_three_outcomes(tmp_path: Path, lost: int, n: int, outcome: str) -> None:
    params = rules(non_inferiority=[against("merged", 0.08)])
    verdict = judge(tmp_path, params, candidate="0" * lost + "1" * (n - lost), merged="1" * n, base="0" * n)
    doc = verdict.read_json("verdict.json")
    (rule,) = doc["rules"]
    assert doc["outcome"] == rule["outcome"] == outcome
    one_sided_95 = paired_difference(0, lost, n, 0.90)
    assert (rule["value"], rule["low"], rule["high"]) == (one_sided_95.value, one_sided_95.low, one_sided_95.high)


def test_an_inconclusive_rule_says_how_many_items_would_do_and_is_not_promoted(tmp_path: Path) -> None:
    params = rules(non_inferiority=[against("champion", 0.08)])
    verdict = judge(tmp_path, params, candidate="00" + "1" * 38, merged="1" * 40, base="0" * 40, champion="1" * 40)
    (rule,) = verdict.read_json("verdict.json")["rules"]
    assert rule["items"] == 40
    assert rule["items_needed"] > 100
    with pytest.raises(GateError, match=rf"inconclusive: .* 40 items cannot tell, about {rule['items_needed']} would"):
        require_pass(verdict)


def test_one_failed_rule_outweighs_an_inconclusive_one(tmp_path: Path) -> None:
    params = rules(floors={"json_exact": 0.99}, non_inferiority=[against("merged", 0.08)])
    verdict = judge(tmp_path, params, candidate="00" + "1" * 38, merged="1" * 40, base="0" * 40)
    assert verdict.summary["outcome"] == "fail"
    assert (verdict.summary["rules_fail"], verdict.summary["rules_inconclusive"]) == (1, 1)


def test_gain_and_cost_are_two_numbers_with_intervals(tmp_path: Path) -> None:
    verdict = judge(
        tmp_path,
        rules(floors=FLOORS),
        candidate="i" * 4 + "1" * 96,
        merged="1" * 98 + "0" * 2,
        base="0" * 90 + "i" * 10,
    )
    doc = verdict.read_json("verdict.json")
    assert doc["finetuning_gain"]["json_exact"]["value"] == pytest.approx(0.98)
    assert doc["quantization_cost"]["json_exact"]["value"] == pytest.approx(0.02)  # 4 lost, 2 won back
    assert doc["quantization_cost"]["label_accuracy"]["value"] == pytest.approx(-0.02)
    gain = doc["finetuning_gain"]["label_accuracy"]
    assert gain["low"] < gain["value"] < gain["high"]
    assert doc["finetuning_gain"]["json_exact"]["p"] < 1e-6 < doc["quantization_cost"]["json_exact"]["p"]


@pytest.mark.parametrize(("bits", "outcome"), [(4.5, "pass"), (6.12, "fail")])
def test_more_bits_than_the_format_has_fail(tmp_path: Path, bits: float, outcome: str) -> None:
    verdict = judge(tmp_path, rules(max_bits_per_parameter=4.6), bits, candidate="1", merged="1", base="0")
    assert verdict.summary["outcome"] == outcome


def test_a_quantized_checkpoint_that_does_not_say_its_bits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="bits_per_parameter"):
        judge(tmp_path, rules(max_bits_per_parameter=4.6), None, candidate="1", merged="1", base="0")


@pytest.mark.parametrize(
    ("merged", "ids", "named"),
    [
        ("111", ["t0", "t2", "t1"], "item 2 .*: t1 and t2"),
        ("11", ["t0", "t1"], "item 3 .*: t2 and nothing"),
        ("1111", None, "item 4 .*: nothing and t3"),
    ],
)
def test_items_that_do_not_pair_are_named(tmp_path: Path, merged: str, ids: list[str] | None, named: str) -> None:
    with pytest.raises(DataError, match=named):
        judge(
            tmp_path,
            rules(non_inferiority=[against("merged", 0.1)]),
            ids=ids,
            candidate="111",
            merged=merged,
            base="000",
        )


def test_a_metric_that_was_not_measured_is_inconclusive_and_an_empty_gate_a_config_error(tmp_path: Path) -> None:
    unmeasured = rules(floors={"bleu": 0.5}, non_inferiority=[against("merged", 0.1, "bleu")])
    doc = judge(tmp_path / "a", unmeasured, candidate="1", merged="1", base="0").read_json("verdict.json")
    assert [r["outcome"] for r in doc["rules"]] == ["inconclusive", "inconclusive"]
    assert "bleu was not measured (measured: json_exact, label_accuracy)" in doc["rules"][0]["reason"]
    with pytest.raises(ConfigError, match="no rule applies"):
        judge(tmp_path / "b", rules(), candidate="1", merged="1", base="0")


def test_the_stage_process_finds_its_types() -> None:
    spec = stage_spec("gate")
    assert spec.inputs == {
        "candidate": Evaluation,
        "merged": Evaluation,
        "base": Evaluation,
        "champion": Evaluation,
        "best": Evaluation,
        "agent": Evaluation,
        "agent_champion": Evaluation,
        "search": Retrieval,
        "choice": Choice,
        "answers": Evaluation,
        "answers_champion": Evaluation,
        "quantized": Quantized,
        "engine": Engine,
        "data": Dataset,
        "champion_data": Dataset,
        "search_champion": Retrieval,
    }
    assert (spec.params, spec.output) == (GateParams, Verdict)


def test_rules_on_the_answers_are_applied_unless_they_are_taken_away(tmp_path: Path) -> None:
    sides = {"candidate": "1" * 30, "merged": "1" * 30, "base": "0" * 30}
    doc = judge(tmp_path, GateParams(), **sides).read_json("verdict.json")
    assert [(r["rule"], r["outcome"]) for r in doc["rules"]] == [("verbosity", "pass"), ("cut_off", "pass")]


def test_a_failed_gate_names_the_likely_cause(tmp_path: Path) -> None:
    verdict = judge(tmp_path, rules(floors=FLOORS), candidate=" " * 30, merged="1" * 30, base="0" * 30)
    with pytest.raises(GateError, match=r"fail: json_exact 0\.000 .*nothing was promoted: 30 of 30 answers are empty"):
        require_pass(verdict)


def test_a_merge_that_was_streamed_is_compared_on_what_was_streamed(tmp_path: Path) -> None:
    """No base, no answers of the merge: verbosity is skipped by name, served metrics are inconclusive."""
    store = Store(tmp_path / "store")
    with store.create(Quantized, "q", {}) as out:
        (out / "summary.json").write_text("{}")
    with store.create(ReferenceScores, "r", {}) as out:
        figures = {"tokens": 2, "reference": -1.0, "other": -1.02, "kl": 0.01, "agreement": 1.0}
        (out / "scores.jsonl").write_text("".join(json.dumps({"id": f"t{i}", **figures}) + "\n" for i in range(30)))
    scores = load(ReferenceScores, store.dir("reference", "r"))
    candidate = evaluation(store, "candidate", "1" * 30)
    sides = {
        "merged": unanswered([{"id": f"t{i}", "label": "a", "template": f"t{i}"} for i in range(30)], 0.95),
        "candidate": (read_items(candidate), {**candidate.read_json("metrics.json"), "confidence": 0.95}),
    }
    made = {}
    for role, (items, metrics) in sides.items():
        add_streamed(items, metrics, scores, role)
        with store.create(Evaluation, f"{role}-streamed", {}) as out:
            (out / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
            (out / "metrics.json").write_text(json.dumps(metrics))
        made[role] = load(Evaluation, store.dir("evaluation", f"{role}-streamed"))
    paired = [against("merged", 0.05, "log_likelihood"), against("merged", 0.05)]
    params = GateParams.model_validate({"non_inferiority": paired, "floors": {"kl_from_merge": 0.05}})
    with store.create(Verdict, "v", {}) as out:
        quantized = load(Quantized, store.dir("quantized", "q"))
        gate(
            made["candidate"],
            made["merged"],
            None,
            None,
            quantized,
            None,
            params,
            Workspace(out, tmp_path, tmp_path, Progress()),
        )
    doc = load(Verdict, store.dir("verdict", "v")).read_json("verdict.json")
    outcomes = {(rule["rule"], rule["metric"]): rule["outcome"] for rule in doc["rules"]}
    assert outcomes["floor", "kl_from_merge"] == outcomes["non_inferiority", "log_likelihood"] == "pass"
    assert outcomes["non_inferiority", "json_exact"] == "inconclusive"
    assert doc["skipped"] == ["verbosity against merged: it was not served"] and doc["finetuning_gain"] == {}
    assert doc["quantization_cost"]["log_likelihood"]["value"] == pytest.approx(0.01)


def seeds(gained: int, lost: int, both: int, n: int) -> tuple[str, str]:
    """Candidate and champion on the same `n` items by their discordant and common right ones."""
    rest = "i" * (n - gained - lost - both)
    return "1" * gained + "i" * lost + "1" * both + rest, "i" * gained + "1" * lost + "1" * both + rest


@pytest.mark.parametrize("tie", ["keep", "promote"])
def test_80_percent_after_84_is_not_promoted_unasked_by_the_embedded_gate(tmp_path: Path, tie: str) -> None:
    """Another seed, 191 right of 238 after 199: not by its margin, and not as a tie that brings nothing."""
    section = yaml.safe_load(Path("conf/gates/embedded.yaml").read_text())
    params = GateParams.model_validate({k: v for k, v in section.items() if k != "description"} | {"tie": tie})
    candidate, champion = seeds(12, 20, 179, 238)
    doc = judge(tmp_path, params, candidate=candidate, merged=candidate, base="0" * 238, champion=champion).read_json(
        "verdict.json"
    )
    outcomes = {(r["rule"], r["against"]): r["outcome"] for r in doc["rules"]}
    assert outcomes["non_inferiority", "champion"] == "inconclusive"
    assert outcomes.get(("gain", "champion")) == ("fail" if tie == "keep" else None)
    assert doc["outcome"] == ("fail" if tie == "keep" else "inconclusive")


def test_a_candidate_that_the_champion_would_let_pass_is_held_to_the_best_release(tmp_path: Path) -> None:
    """Each of three releases loses 4 of 100 to the one before it: the champion's margin of 0.12 allows every step."""
    paired = [against("champion", 0.12), against("best", 0.12)]
    sides = {"merged": "1" * 100, "base": "0" * 100, "candidate": "0" * 12 + "1" * 88}
    alone = judge(tmp_path / "a", rules(non_inferiority=paired), champion="0" * 8 + "1" * 92, **sides)
    doc = alone.read_json("verdict.json")
    assert doc["outcome"] == "pass"
    assert doc["skipped"] == [
        "json_exact against best: the champion is it",
        "speed against champion: no speed run of both engines has the same client and settings",
    ]
    params = rules(non_inferiority=paired, trials=10)
    held = judge(tmp_path / "b", params, champion="0" * 8 + "1" * 92, best="1" * 100, **sides).read_json("verdict.json")
    by_reference = {r["against"]: r for r in held["rules"]}
    assert held["outcome"] == by_reference["best"]["outcome"] == "inconclusive"
    assert by_reference["champion"]["outcome"] == "pass"
    assert by_reference["best"]["alpha"] == pytest.approx(0.05 / 20)
    assert by_reference["best"]["value"] == pytest.approx(-0.12)


def test_one_of_many_paired_rules_fails_by_chance_and_is_not_believed_alone(tmp_path: Path) -> None:
    """10 of 100 lost are below a margin of 0.05 at 0.05 for one rule, and not for eight."""
    sides = {"candidate": "0" * 10 + "1" * 90, "merged": "1" * 100, "base": "1" * 100}
    one = judge(tmp_path / "a", rules(non_inferiority=[against("merged", 0.05)]), **sides).read_json("verdict.json")
    assert one["outcome"] == "fail"
    many = [against("merged", 0.05), *(against("merged", 0.9, "label_accuracy") for _ in range(7))]
    doc = judge(tmp_path / "b", rules(non_inferiority=many), **sides).read_json("verdict.json")
    assert doc["outcome"] == "inconclusive"
    assert "one of 8 tests may be so by chance" in doc["rules"][0]["reason"]


def test_the_verdict_records_what_later_candidates_are_compared_by(tmp_path: Path) -> None:
    doc = judge(tmp_path, rules(floors=FLOORS), candidate="1" * 90 + "0" * 10, merged="1" * 100, base="0" * 100)
    first = doc.read_json("verdict.json")["measured"][0]
    assert first == {"name": "json_exact", "value": 0.9, "direction": "higher", "n": 100}


@pytest.mark.parametrize(("gained", "better"), [(12, True), (9, False)])
def test_the_verdict_records_what_it_was_shown_to_be_better_than(tmp_path: Path, gained: int, better: bool) -> None:
    sides = {"candidate": "1" * 100, "merged": "1" * 100, "base": "0" * 100}
    verdict = judge(tmp_path, rules(floors=FLOORS), champion="0" * gained + "1" * (100 - gained), **sides)
    assert verdict.read_json("verdict.json")["compared"] == {"champion": {"engine": None, "better": better}}


def test_without_a_best_release_or_a_rule_on_the_machine_the_key_is_as_before() -> None:
    document = GateParams(serving=TargetConfig(name="elsewhere")).key_document()
    assert document == GateConfig().key_document()
    assert GateParams(look=2).key_document()["look"] == 2
    assert GateParams(users=3).key_document()["serving"]["name"] == "local"


def test_a_first_look_is_stricter_and_asks_for_the_other_rows_where_it_decides_nothing(tmp_path: Path) -> None:
    sides = {"candidate": "0" * 2 + "1" * 58, "merged": "1" * 60, "base": "0" * 60}
    paired = [against("merged", 0.1)]
    looks = {"test_rows": 120, "first_look": 60}
    first = judge(tmp_path / "a", rules(non_inferiority=paired, **looks), **sides).read_json("verdict.json")
    assert first["rules"][0]["alpha"] == pytest.approx(look_alpha(0.05, 0.5))
    assert (first["outcome"], first["untested"]) == ("inconclusive", 60)
    once = judge(tmp_path / "b", rules(non_inferiority=paired), **sides)
    assert once.read_json("verdict.json")["outcome"] == "pass"
    assert not wants_more_items(once)
    second = rules(non_inferiority=paired, **looks, look=2)
    whole = judge(tmp_path / "c", second, **{side: right * 2 for side, right in sides.items()})
    doc = whole.read_json("verdict.json")
    assert doc["rules"][0]["alpha"] == pytest.approx(look_alpha(0.05, 0.5))
    assert doc["outcome"] == "pass" and not wants_more_items(whole)


def test_rows_that_cannot_change_the_outcome_are_not_asked_for(tmp_path: Path) -> None:
    """A missed floor fails, however the paired rule would come out."""
    params = rules(floors={"json_exact": 0.99}, non_inferiority=[against("merged", 0.1)], test_rows=120, first_look=60)
    verdict = judge(tmp_path, params, candidate="0" * 2 + "1" * 58, merged="1" * 60, base="0" * 60)
    assert verdict.summary["outcome"] == "fail" and not wants_more_items(verdict)


@pytest.mark.parametrize(
    ("most", "more_items", "rows", "first_look"),
    [
        (60, True, 120, 60),
        (60, False, 120, None),
        (None, True, 120, None),
        (120, True, 120, None),
        (60, True, None, None),
    ],
)
def test_there_are_two_looks_only_where_rows_are_left_out_at_first(
    most: int | None, more_items: bool, rows: int | None, first_look: int | None
) -> None:
    config = parse({"evaluate": {"max_items": most}, "gate": {"more_items": more_items}}, "a test")
    params = params_of(config, rows, look=2)
    assert params.first_look == first_look
    assert params.look == (2 if first_look else 1)


STOP = {"intent": "HassCancelTimer", "name": "tea"}
AGENT_RULES = {
    "floors": {"json_exact": 0.8, "agent_acted_unasked": 0, "agent_success": 0.9},
    "non_inferiority": [against("champion", 0.1, "agent_success"), against("champion", 0.1)],
}


def agent_evaluation(tmp_path: Path, key: str, answers: Mapping[str, Mapping[str, Any]]) -> Evaluation:
    """Thirty tasks of an agent: stop a timer, and leave a room alone that is not there."""
    tasks = []
    for n in range(30):
        gold = [STOP] if n % 2 else []
        request = "stop the tea timer" if n % 2 else "turn off the lights in the conservatory"
        turns = [TaskTurn(request=request, gold=gold)]
        timers = [timer(60, name="tea"), timer(90)]
        tasks.append(Task(id=f"{n}", kind="single", template=f"t{n}", seed=n, timers=timers, turns=turns))
    tasks = [with_expected(task, SMALL) for task in tasks]
    config = AgentConfig(kind="intents", split=False)
    tried = [attempt(task, SMALL, lambda home: IntentsAgent(by_text(answers), home, config)) for task in tasks]
    items = [score(task, one) for task, one in zip(tasks, tried, strict=True)]
    store = Store(tmp_path / "agents")
    with store.create(Evaluation, key, {}) as out:
        write_evaluation(out, items, [], summarize(tasks, items, 0.95))
    return load(Evaluation, store.dir("evaluation", key))


ANSWERS = {
    "stop the tea timer": STOP,
    "turn off the lights in the conservatory": {"intent": "HassTurnOff", "domain": "light", "area": "conservatory"},
}


def test_an_agent_that_does_what_was_asked_passes_the_rules_that_name_its_metrics(tmp_path: Path) -> None:
    agents = {name: agent_evaluation(tmp_path, name, ANSWERS) for name in ("agent", "agent_champion")}
    sides = dict.fromkeys(("candidate", "merged", "base", "champion"), "1" * 30)
    doc = judge(tmp_path, rules(**AGENT_RULES), agents=agents, **sides).read_json("verdict.json")
    assert doc["outcome"] == "pass"
    by_metric = {(rule["rule"], rule["metric"]): rule for rule in doc["rules"]}
    assert by_metric["floor", "agent_acted_unasked"]["value"] == 0
    assert by_metric["non_inferiority", "agent_success"]["items"] == 30
    assert next(row for row in doc["measured"] if row["name"] == "agent_success")["value"] == 1.0


def test_an_agent_whose_tool_does_too_much_fails_the_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    champion = agent_evaluation(tmp_path, "agent_champion", ANSWERS)
    cancel = tools.call

    def too_much(home: Home, name: str, slots: Mapping[str, Any]) -> str:
        home.state["timers"].clear()
        return cancel(home, "HassStartTimer", {"seconds": 1})

    monkeypatch.setattr("slipway.agents.intents_agent.call", too_much)
    agents = {"agent": agent_evaluation(tmp_path, "agent", ANSWERS), "agent_champion": champion}
    sides = dict.fromkeys(("candidate", "merged", "base", "champion"), "1" * 30)
    verdict = judge(tmp_path, rules(**AGENT_RULES), agents=agents, **sides)
    failed = {(rule["rule"], rule["metric"]) for rule in verdict.read_json("verdict.json")["rules"]
              if rule["outcome"] == "fail"}  # fmt: skip
    assert failed == {
        ("floor", "agent_success"), ("floor", "agent_acted_unasked"), ("non_inferiority", "agent_success"),
    }  # fmt: skip
    with pytest.raises(GateError, match="agent_acted_unasked"):
        require_pass(verdict)


def test_rules_on_an_agent_without_one_are_inconclusive_and_against_none_skipped(tmp_path: Path) -> None:
    sides = dict.fromkeys(("candidate", "merged", "base"), "1" * 30)
    doc = judge(tmp_path, rules(**AGENT_RULES), **sides).read_json("verdict.json")
    assert doc["outcome"] == "inconclusive"
    assert any("agent_success" in reason for reason in doc["skipped"])
    agents = {"agent": agent_evaluation(tmp_path, "agent", ANSWERS)}
    doc = judge(tmp_path / "b", rules(**AGENT_RULES), agents=agents, **sides).read_json("verdict.json")
    assert (doc["outcome"], len(doc["skipped"])) == ("pass", 2)


def search(
    folder: Path, recall: float, retriever: str = "dense", key: str = "s", hits: str = "0" * 30, changed: int = 0
) -> Retrieval:
    """An evaluation of retrieval: 30 questions that report, of this recall, some of a little less, and as many that
    chose, of none. `hits`: whether one of 5 chunks answers, a character a question; `changed`: questions whose
    documents the index has otherwise."""
    rows = [
        {"question": f"{half}{n}", "document": "d", "half": half, "retriever": retriever, "same_text": n >= changed}
        | dict.fromkeys(NAMES, 0.0)
        | {"recall": recall - n % 3 / 1000 if half == "report" else 0.0, "hit@5": float(hits[n])}
        for half in ("choose", "report")
        for n in range(30)
    ]
    store = Store(folder / "store")
    with store.create(Retrieval, key, {}) as out:
        (out / "items.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return load(Retrieval, store.dir("retrieval", key))


def test_retrieval_is_judged_by_floors_and_rows_on_its_metrics(tmp_path: Path) -> None:
    sides = dict.fromkeys(("candidate", "merged", "base"), "1" * 30)
    params = rules(floors={"rag_recall": 0.7}, rules=[{"rule": "floor", "metric": "rag_tokens", "limit": 5}])
    good = judge(tmp_path / "a", params, agents={"search": search(tmp_path / "a", 0.8)}, **sides)
    doc = good.read_json("verdict.json")
    assert doc["outcome"] == "pass"
    values = {rule["metric"]: rule["value"] for rule in doc["rules"]}
    assert values == {"rag_recall": pytest.approx(0.799), "rag_tokens": 0.0}
    assert next(row for row in doc["beside"] if row["name"] == "rag_recall")["n"] == 30
    assert next(row for row in doc["measured"] if row["name"] == "rag_recall")["value"] == pytest.approx(0.799)
    bad = judge(tmp_path / "b", params, agents={"search": search(tmp_path / "b", 0.6)}, **sides)
    with pytest.raises(GateError, match=r"rag_recall 0\.599 .* below the floor 0\.700"):
        require_pass(bad)
    without = judge(tmp_path / "c", params, **sides).read_json("verdict.json")
    assert without["outcome"] == "inconclusive"


def answers(folder: Path, key: str, right: str) -> Evaluation:
    """An evaluation of answers: one character an item, `1` where the reference was given word for word."""
    passage = Passage("d", "one two")
    items = []
    for n, c in enumerate(right):
        question = Asked(f"q{n}", "?", "one two", frozenset({"d"}))
        arms = {"retrieved": Answered("one two [1]" if c == "1" else "three", [passage], True)}
        items.append(answer_score(question, arms, "I do not know"))
    store = Store(folder / "store")
    with store.create(Evaluation, key, {}) as out:
        (out / "items.jsonl").write_text("".join(json.dumps(one) + "\n" for one in items))
        (out / "metrics.json").write_text(json.dumps(answer_summary(items, 0.95)))
    return load(Evaluation, store.dir("evaluation", key))


def test_answers_are_judged_by_floors_and_against_the_champion(tmp_path: Path) -> None:
    sides = dict.fromkeys(("candidate", "merged", "base", "champion"), "1" * 30)
    params = rules(floors={"answer_cites": 0.8}, non_inferiority=[against("champion", 0.2, "answer_f1")])
    made = {"answers": answers(tmp_path, "a", "1" * 29 + "0"), "answers_champion": answers(tmp_path, "ac", "1" * 30)}
    doc = judge(tmp_path, params, agents=made, **sides).read_json("verdict.json")
    assert {(rule["metric"], rule["outcome"]) for rule in doc["rules"] if rule["metric"].startswith("answer")} == {
        ("answer_cites", "pass"), ("answer_f1", "pass"),
    }  # fmt: skip
    worse = {**made, "answers": answers(tmp_path / "b", "a", "1" * 10 + "0" * 20)}
    with pytest.raises(GateError, match=r"answer_cites 0\.333"):
        require_pass(judge(tmp_path / "b", params, agents=worse, **sides))


def test_a_paired_rule_on_retrieval_is_skipped_where_no_other_index_serves(tmp_path: Path) -> None:
    ones = "1" * 30
    params = rules(floors={"rag_recall": 0.7}, non_inferiority=[against("champion", 0.05, "rag_recall")])
    sides, made = dict.fromkeys(("candidate", "merged", "base"), ones), {"search": search(tmp_path, 0.8)}
    doc = judge(tmp_path / "a", params, agents=made, **sides, champion=ones).read_json("verdict.json")
    assert doc["outcome"] == "pass"
    assert "rag_recall against champion: it has the same one, or none" in doc["skipped"]
    first = judge(tmp_path / "b", params, agents=made, **sides).read_json("verdict.json")
    assert "rag_recall against champion: there is none yet" in first["skipped"]


@pytest.mark.parametrize(
    ("recall", "hits", "outcomes"),
    [
        (0.8, "1" * 29 + "0", {"rag_recall": "pass", "rag_hit_5": "pass"}),
        (0.6, "1" * 29 + "0", {"rag_recall": "fail", "rag_hit_5": "pass"}),
        (0.8, "1" * 9 + "0" * 21, {"rag_recall": "pass", "rag_hit_5": "fail"}),
    ],
)
def test_an_index_is_held_to_the_champions_on_the_same_questions(
    tmp_path: Path, recall: float, hits: str, outcomes: dict[str, str]
) -> None:
    """Also where engine and champion are one: only the index is another."""
    params = rules(non_inferiority=[against("champion", 0.05, "rag_recall"), against("champion", 0.2, "rag_hit_5")])
    sides = {
        "search": search(tmp_path, recall, "hybrid", hits=hits),
        "search_champion": search(tmp_path, 0.8, "bm25", key="c", hits="1" * 30),
    }
    verdict = judge(tmp_path, params, agents=sides, candidate="1" * 30, merged="1" * 30, base="1" * 30)
    doc = verdict.read_json("verdict.json")
    assert {rule["metric"]: rule["outcome"] for rule in doc["rules"]} == outcomes
    assert {rule["items"] for rule in doc["rules"]} == {30}
    if "fail" in outcomes.values():
        with pytest.raises(GateError, match="differs from champion by -"):
            require_pass(verdict)


def test_questions_of_changed_documents_are_left_out_of_the_comparison_and_counted(tmp_path: Path) -> None:
    params = rules(non_inferiority=[against("champion", 0.05, "rag_recall")])
    sides = {"search": search(tmp_path, 0.8), "search_champion": search(tmp_path, 0.8, key="c", changed=7)}
    doc = judge(tmp_path, params, agents=sides, **dict.fromkeys(("candidate", "merged", "base"), "1" * 30)).read_json(
        "verdict.json"
    )
    (rule,) = doc["rules"]
    assert (rule["outcome"], rule["items"]) == ("pass", 23)
    assert any("7 of 30 questions against the champion's index" in one for one in doc["skipped"])

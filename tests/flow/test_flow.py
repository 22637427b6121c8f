"""The whole flow for real, small: every stage in its process, a real engine, a real Prefect server, a real MLflow."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL

from flows.finetune_and_ship import finetune_and_ship
from flows.promote import promote_candidate, roll_back
from flows.watch import watch
from slipway.deployment.candidate import candidate_of, read_verdict
from slipway.deployment.decision.holding import hold, unhold
from slipway.deployment.state import status, stop
from slipway.engines.chat_client import ChatClient
from slipway.errors import ConfigError, GateError, ResourceError
from slipway.ops.chain.plan import as_run, plan
from slipway.pipeline.measurements import read_measurements
from slipway.report.markdown import columns
from slipway.system.ports import any_port
from tasks.watch import DRIFT
from tests.support.files_in_use import contents
from tests.support.flow_world import LINE, MARKS, Outcome, World
from tests.support.pager import pager
from tests.support.watched import Asked, released
from tests.support.world import ROOT, small_settings

pytestmark = MARKS
SHIPPED = "pico qlora nvfp4a16 -> local"  # what a run makes, and how it is called
STAGES = ["fetch", "prepare", "train", "merge", "quantize"]
STAGES += [
    "engine candidate",
    "engine base",
    "evaluate base",
    "engine merged",
    "evaluate merged",
    "evaluate candidate",
    "gate",
    "promote",
]


@pytest.fixture(scope="module")
def first(world: World) -> Outcome:
    return world.go()


@pytest.fixture(scope="module")
def second(world: World, first: Outcome) -> Outcome:
    return world.go()


@pytest.fixture(scope="module")
def changed(world: World, second: Outcome) -> Outcome:
    """One parameter of one stage differs."""
    return world.go(**{"quantize.exclude": "[lm_head,'*down_proj*']"})


def test_the_first_run_makes_every_stage_and_serves(world: World, first: Outcome) -> None:
    assert first.state.is_completed(), first.state.message
    assert list(first.reused()) == STAGES
    assert set(first.reused().values()) == {False}
    assert all(s["seconds"] > 0 and s["peak_rss"] > 0 for s in first.summary["stages"] if s["stage"] != "promote")
    assert set(first.summary["quality"]) == {"base", "merged", "candidate"}
    assert first.summary["gate"]["outcome"] == "pass"
    with ChatClient(first.summary["endpoint"], "slipway", 60) as client:
        assert client.ask([{"role": "user", "content": "switch the lamp on please"}], 4).text


def test_prefect_shows_one_task_run_a_stage(first: Outcome) -> None:
    assert first.name == SHIPPED
    assert set(first.tasks) == {
        *STAGES,
        "reference plan",
        "rival",
        "best release",
        "since the champion",
        "decide",
        "report",
    }
    assert {s.name for s in first.tasks.values()} == {"Completed"}
    assert "made in" in (first.tasks["train"].message or "")


def test_prefect_has_progress_tables_report_and_links(first: Outcome) -> None:
    with get_client(sync_client=True) as client:
        answer = client.request("POST", "/artifacts/latest/filter", json={})
    artifacts = {a["key"]: a for a in answer.json()}
    planned = {row["stage"]: row for row in json.loads(artifacts["plan"]["data"])}
    assert list(planned) == STAGES[:-1]
    assert (planned["fetch"]["plan"], planned["fetch"]["why"]) == ("runs", "never made here")
    assert all("memory" in row["actual"] for row in planned.values()), "every stage has ended"
    assert {"train-progress", "quantize-progress", "quality", "gate", "run-report", "endpoint"} <= set(artifacts)
    assert artifacts["train-progress"]["data"] == 100.0
    assert [r["model"] for r in json.loads(artifacts["quality"]["data"])] == ["base", "merged", "candidate"]
    assert artifacts["run-report"]["data"].count("data:image/png;base64,") == 7


def test_what_serves_is_looked_at_and_shown_in_prefect_and_mlflow(world: World, first: Outcome) -> None:
    """Four rows of four templates: all answered by the embedded engine, too few for any alarm, and said to be."""
    document = watch(world.config())
    assert (document["outcome"], document["rows"]) == ("cannot_tell", {"asked": 4, "answered": 4, "of": 4})
    assert all("nothing can be said at this level" in check["reason"] for check in document["checks"][:2])
    with get_client(sync_client=True) as client:
        artifacts = {a["key"]: a for a in client.request("POST", "/artifacts/latest/filter", json={}).json()}
    assert artifacts["watch-local-report"]["data"].count("data:image/png;base64,") == 1
    assert [row["check"] for row in json.loads(artifacts["watch-local"]["data"])][-1] == "input labels"
    tracked = world.parents()[0]
    assert (tracked.info.run_name, tracked.data.metrics["watch.alarms"]) == ("watch local", 0.0)
    files = {file.path for file in world.client().list_artifacts(tracked.info.run_id, "report")}
    assert files == {"report/watch.md", "report/watch.json", "report/watch.png"}


def test_drift_is_an_event_that_an_automation_can_wait_for_and_a_message(world: World, tmp_path: Path) -> None:
    """An engine that answers half of its rows otherwise than when it was evaluated."""
    rows = [Asked(f"say {'on' if i % 2 else 'nothing'}", "on") for i in range(40)]
    config, release = released(tmp_path, rows, expected="on")
    pages = world.config(**{"notify.to": "[custom-webhook/pager]"})
    try:
        with pager() as messages:
            document = watch(config.model_copy(update={"tracking": pages.tracking, "notify": pages.notify}))
    finally:
        stop(config.deploy)
    assert document["outcome"] == "drift"
    assert [one["subject"] for one in messages] == [f"local: {release.name} drifted"]
    assert "exact -50.0 points" in messages[0]["text"] and "Next: `slipway rollback local`" in messages[0]["text"]
    wanted = {"filter": {"event": {"name": [DRIFT]}}}
    with get_client(sync_client=True) as client:
        while not (events := client.request("POST", "/events/filter", json=wanted).json()["events"]):
            time.sleep(0.2)  # the server writes events by portions; the test's own time limit ends this
    assert events[0]["resource"]["prefect.resource.id"] == "slipway.target.local"
    assert (events[0]["payload"]["release"], events[0]["payload"]["checks"]) == (release.name, ["exact"])
    assert "drifted: exact -50.0 points" in events[0]["payload"]["summary"]


def test_the_plan_of_a_second_run_reuses_every_stage_with_nothing_to_do(world: World, first: Outcome) -> None:
    config, _ = as_run(world.config())
    planned = plan(config, ROOT)
    assert [(stage.title, stage.state) for stage in planned.stages] == [(title, "reused") for title in STAGES[:-1]]
    assert planned.nothing_to_do
    measured = read_measurements(world.folder / "store").rows
    assert [row.title for row in measured] == STAGES[:-1] and all(row.measured.seconds > 0 for row in measured)
    again = plan(as_run(world.config(**{"quantize.exclude": "[lm_head,'*down_proj*']"}))[0], ROOT)
    quantize = next(stage for stage in again.stages if stage.title == "quantize")
    assert quantize.estimate and quantize.estimate.figures.seconds == pytest.approx(
        next(row.measured.seconds for row in measured if row.title == "quantize")
    )
    assert not again.nothing_to_do


def test_mlflow_keeps_the_run_its_stages_and_where_they_came_from(world: World, first: Outcome) -> None:
    parent, children = first.mlflow, world.children(first.mlflow)
    assert parent.info.status == "FINISHED"
    assert set(children) == set(STAGES)
    assert parent.data.params["train.rank"] == "4"
    assert {"slipway.git_commit", "slipway.environment", "slipway.data_digest", "slipway.data_revision"} <= set(
        parent.data.tags
    )
    assert any(name.startswith("system/") for name in parent.data.metrics)
    assert parent.inputs.dataset_inputs[0].dataset.digest == parent.data.tags["slipway.data_digest"]
    loss = world.client().get_metric_history(children["train"].info.run_id, "loss")
    assert [m.step for m in loss] == [1, 2, 3, 4]
    files = {f.path for f in world.client().list_artifacts(parent.info.run_id)}
    assert {"config.yaml", "command.txt", "report"} <= files
    reports = {f.path for f in world.client().list_artifacts(parent.info.run_id, "report")}
    plots = {f"report/{name}.png" for name in ("quality", "effects", "loss", "speed", "latency", "memory", "starts")}
    assert {"report/card.md", "report/report.md", "report/report.html", *plots} == reports


def test_weights_are_registered_by_reference(world: World, first: Outcome) -> None:
    digest = {s["stage"]: s["digest"] for s in first.summary["stages"]}["engine candidate"]
    version = world.client().get_model_version(LINE, "1")
    assert version.tags["digest"] == digest
    model = world.client().get_logged_model(version.source.removeprefix("models:/"))
    assert Path(world.config().store.root, model.tags["uri"], "model.gguf").is_file()
    assert not list(world.folder.glob("mlruns/**/*.gguf")) + list(world.folder.glob("mlruns/**/*.safetensors"))


def test_the_second_run_reuses_everything_and_says_why(world: World, first: Outcome, second: Outcome) -> None:
    assert second.state.name == "Cached"
    assert second.reused() == dict.fromkeys(STAGES, True)
    assert all("same inputs" in s["why"] or "serves this engine already" in s["why"] for s in second.summary["stages"])
    assert {n: s.name for n, s in second.tasks.items()} == {
        **dict.fromkeys(STAGES, "Cached"),
        "reference plan": "Completed",
        "rival": "Completed",
        "decide": "Completed",
        "best release": "Completed",
        "since the champion": "Completed",
        "report": "Completed",
    }
    assert "same inputs" in (second.tasks["train"].message or "")
    assert second.summary["endpoint"] == first.summary["endpoint"]
    assert {r.data.tags["slipway.reused"] for n, r in world.children(second.mlflow).items() if n != "promote"} == {
        "true"
    }
    assert len(world.client().search_model_versions(f"name = '{LINE}'")) == 1


def test_a_merge_that_is_streamed_is_compared_with_what_ships(world: World, second: Outcome) -> None:
    """Neither the base nor the merge is served; the gate decides on the log-likelihood of the reference answers."""
    rule = "[{against: merged, metric: log_likelihood, margin: 100}]"
    streamed = world.go(**{"evaluate.reference": "streamed", "gate.non_inferiority": rule})
    assert streamed.state.is_completed(), streamed.state.message
    made = {stage: reused for stage, reused in streamed.reused().items() if stage not in ("promote", "gate")}
    assert made.pop("reference") is made.pop("evaluate merged") is made.pop("evaluate candidate") is False
    assert set(made) == {"fetch", "prepare", "train", "merge", "quantize", "engine candidate"} and all(made.values())
    quality = {name: columns([served["metrics"]]) for name, served in streamed.summary["quality"].items()}
    assert list(quality["merged"]) == ["log_likelihood"]
    assert list(quality["candidate"])[-3:] == ["log_likelihood", "kl_from_merge", "token_agreement"]
    outcomes = {(r["metric"], r["against"]): r["outcome"] for r in streamed.summary["gate"]["rules"]}
    assert outcomes["log_likelihood", "merged"] == "pass"
    assert streamed.mlflow.data.metrics["candidate.log_likelihood"] < 0


def test_an_inconclusive_first_look_is_followed_by_one_at_all_test_rows(world: World, second: Outcome) -> None:
    """A margin that no few items decide: the verdict is the second look's, on every test row."""
    rule = "[{against: merged, metric: log_likelihood, margin: 1e-9}]"
    looked = world.go(**{"evaluate.reference": "streamed", "gate.non_inferiority": rule})
    stages = [row["stage"] for row in looked.summary["stages"]]
    assert stages.count("gate") == stages.count("evaluate candidate") == stages.count("reference") == 2
    data = world.config().store.root
    rows = {len(file.read_text().splitlines()) for file in Path(data).glob("dataset/*/test.jsonl")}
    assert {served["metrics"]["n"] for served in looked.summary["quality"].values()} == rows
    (paired,) = [rule for rule in looked.summary["gate"]["rules"] if rule["rule"] == "non_inferiority"]
    assert paired["items"] in rows and paired["alpha"] < 0.05


def test_a_partial_config_and_overrides_are_the_same_run(world: World, second: Outcome) -> None:
    """As parameters of a deployment come: half as a nested document, half as words; `conf/` gives the rest. The keys of
    all stages cover their whole sections, so reuse means equal configs."""
    words = [f"{k}={v}" for k, v in small_settings(world.folder, world.tracking, world.port).items()]
    partial = OmegaConf.to_container(OmegaConf.from_dotlist(words[::2]))
    again = world.run(finetune_and_ship(config=partial, overrides=words[1::2], return_state=True))
    assert again.state.name == "Cached", again.state.message
    assert again.reused() == dict.fromkeys(STAGES, True)


def test_an_engine_that_auto_chooses_is_the_one_of_that_name(world: World, second: Outcome) -> None:
    chosen = world.go(**{"engine.kind": "auto"})
    assert chosen.state.is_completed(), chosen.state.message
    assert set(chosen.reused().values()) == {True}, "llama.cpp is what serves on this machine"
    with get_client(sync_client=True) as client:
        of_run = LogFilterFlowRunId(any_=[chosen.state.state_details.flow_run_id])
        logs = [log.message for log in client.read_logs(LogFilter(flow_run_id=of_run), limit=200)]
    assert "engine.kind=auto: llama.cpp" in logs
    assert any(log.startswith("vllm refused: no GPU") for log in logs)


def test_unknown_keys_in_parameters_end_the_run_at_its_first_line(world: World) -> None:
    for parameters in ({"config": {"train": {"epoch": 2}}}, {"overrides": ["train.epoch=2"]}):
        state = finetune_and_ship(**parameters, return_state=True)
        with pytest.raises(ConfigError, match=r"config key train\.epoch: unknown.*did you mean epochs"):
            state.result()


def test_a_password_reaches_no_parameter_message_or_log_of_prefect(world: World) -> None:
    """The address is on nobody's port, so the run ends with an error that talks about it."""
    secret, port = "Tr0ub4dor-and-3", any_port()
    config = world.config(**{"tracking.uri": f"http://ann:{secret}@127.0.0.1:{port}"})
    state = finetune_and_ship(config, return_state=True)
    with pytest.raises(ResourceError, match=rf"http://\*\*\*@127\.0\.0\.1:{port} does not answer"):
        state.result()
    assert config.tracking.uri.get_secret_value().count(secret) == 1, "it still connects with it"
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(state.state_details.flow_run_id)
        logs = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])), limit=200)
    assert run.parameters["config"]["tracking"]["uri"] == f"http://***@127.0.0.1:{port}"
    text = run.model_dump_json() + "".join(log.message for log in logs)
    assert secret not in text
    database = Path(str(PREFECT_API_DATABASE_CONNECTION_URL.value()).partition("///")[2])
    files = contents(database.parent)
    assert database in files, "the search looks at Prefect's database"
    assert [file for file, held in files.items() if secret.encode() in held] == []


def test_one_parameter_reruns_exactly_what_depends_on_it(world: World, second: Outcome, changed: Outcome) -> None:
    again = {"quantize", "engine candidate", "evaluate candidate", "gate", "promote"}
    assert {stage for stage, reused in changed.reused().items() if not reused} == again
    assert changed.reused()["evaluate champion"]  # it was evaluated when it was the candidate
    assert changed.summary["endpoint"] != second.summary["endpoint"]
    assert world.champion() == "2"
    assert world.go(**{"quantize.exclude": "[lm_head,'*down_proj*']"}).state.name == "Cached"


def test_a_failing_stage_keeps_its_error_and_the_champion(world: World, changed: Outcome) -> None:
    before = status(world.config().deploy)
    failed = world.go(**{"train.upper_layers": 99})
    with pytest.raises(ConfigError, match=r"train\.upper_layers"):
        failed.state.result()
    assert failed.tasks["train"].name == "Failed"
    assert failed.tasks["train"].state_details.retriable is not True
    child = world.children(failed.mlflow)["train"]
    for run in (failed.mlflow, child):
        assert run.info.status == "FAILED"
        assert "train.upper_layers" in run.data.tags["slipway.error"]
    assert "error.txt" in {f.path for f in world.client().list_artifacts(child.info.run_id)}
    assert status(world.config().deploy) == before
    assert before.healthy


def test_a_failed_gate_promotes_nothing(world: World, changed: Outcome) -> None:
    before = status(world.config().deploy)
    failed = world.go(**{"gate.floors": "{json_exact: 1.0}"})
    with pytest.raises(GateError, match=r"json_exact .* below the floor 1\.000"):
        failed.state.result()
    assert {stage for stage, reused in failed.reused().items() if not reused} == {"gate"}
    assert failed.summary["gate"]["outcome"] == "fail"
    assert failed.mlflow.info.status == "FAILED"
    assert status(world.config().deploy) == before
    assert world.champion() == "2"


def test_an_agent_that_fails_its_tasks_promotes_nothing(world: World, first: Outcome) -> None:
    before = status(world.config().deploy)
    timers = [{"name": "tea", "area": "kitchen", "seconds": 60, "remaining": 60, "paused": False, "command": None}]
    turns = [{"request": "stop the tea timer", "gold": [{"intent": "HassCancelTimer", "name": "tea"}]}]
    tasks = [{"id": str(n), "kind": "single", "timers": timers, "turns": turns} for n in range(3)]
    file = world.folder / "tasks.jsonl"
    file.write_text("".join(json.dumps(task) + "\n" for task in tasks))
    agent = {"agent.kind": "intents", "agent.tasks_file": file, "agent.max_new_tokens": 16}
    failed = world.go(**agent, **{"gate.floors": "{agent_success: 0.9}"})
    with pytest.raises(GateError, match=r"agent_success 0\.000 .* below the floor 0\.900"):
        failed.state.result()
    made = {stage for stage, reused in failed.reused().items() if not reused}
    assert {"agent_eval candidate", "gate"} <= made <= {"agent_eval candidate", "agent_eval champion", "gate"}
    assert status(world.config().deploy) == before
    planned = plan(as_run(world.config(**agent, **{"gate.floors": "{agent_success: 0.9}"}))[0], ROOT)
    assert {stage.state for stage in planned.stages} == {"reused"}


def test_a_tie_that_brings_nothing_ends_well_and_the_champion_stays(world: World, changed: Outcome) -> None:
    """The same data, no smaller engine, nothing better beyond chance: a result, no error."""
    before = status(world.config().deploy)
    settings = {"quantize.exclude": "[lm_head,'*down_proj*']", "gate.tie": "keep", "gate.min_faster": 9}
    tied = world.go(**settings)
    assert tied.state.name == "Kept", tied.state.message
    assert "a tie that brings nothing" in (tied.state.message or "")
    assert {stage for stage, reused in tied.reused().items() if not reused} == {"gate"}
    assert tied.summary["gate"]["outcome"] == "fail"
    assert status(world.config().deploy).release == before.release


def test_rollback_moves_the_alias_back_and_promotion_by_hand_forward(world: World, changed: Outcome) -> None:
    back = world.go(roll_back)
    assert back.state.is_completed(), back.state.message
    assert back.name == "rollback -> local"
    assert world.champion() == "1"
    digest = next(s["digest"] for s in changed.summary["stages"] if s["stage"] == "engine candidate")
    passed = (read_verdict(path) for path in world.verdicts_of("pass"))  # the tie judged the same engine too
    verdict = next(v for v in passed if candidate_of(v, world.config()).engine.digest == digest)
    forward = world.run(promote_candidate(world.config(), verdict.uri, return_state=True))
    assert forward.state.is_completed(), forward.state.message
    assert forward.name == f"promote {SHIPPED}"
    assert world.champion() == "2"


def test_an_inconclusive_gate_needs_a_person_and_a_hold_refuses_everybody(world: World, changed: Outcome) -> None:
    """A run from a terminal cannot wait for an answer: it names the command that gives one."""
    params = world.config().deploy
    before = status(params).release
    asks = world.go(**{"gate.min_items": 1000})
    with pytest.raises(GateError, match=r"slipway promote .* --approve REASON"):
        asks.state.result()
    assert status(params).release == before
    hold(params, None, "ann", "trade fair")
    try:
        kept = world.go()
        assert kept.state.name == "Kept"
        assert "trade fair" in (kept.state.message or "")
        assert "trade fair" in kept.summary["kept"]
        assert kept.summary["decision"]["ruling"]["rule"] == "hold"
        few = {"few_users": 1, "many_users": 1, "dgx": "local"}  # this machine plays the DGX
        auto = {"deploy.target": "auto", **{f"deploy.routing.{key}": value for key, value in few.items()}}
        refused = world.run(promote_candidate(world.config(**auto), return_state=True))
        with pytest.raises(ResourceError, match=r"trade fair.*slipway unhold"):
            refused.state.result()
        decided = refused.summary["decision"]
        assert (decided["target"], decided["routing"]["decided_by"]) == ("local", "requests at once")
    finally:
        unhold(params, None)
    assert status(params).release == before
    approved = promote_candidate(
        world.config(), str(world.verdicts_of("inconclusive")[0]), "by hand", return_state=True
    )
    assert approved.is_completed(), approved.message
    release = status(params).release
    assert release is not None
    decision = json.loads((Path(release.path) / "decision.json").read_text())
    assert (decision["approval"]["reason"], decision["asked"]["named"]) == ("by hand", True)
    assert (Path(release.path) / "decision.sig.json").exists()


def test_without_mlflow_nothing_starts(world: World, changed: Outcome) -> None:
    state = finetune_and_ship(
        world.config(**{"tracking.uri": f"http://127.0.0.1:{any_port()}", "train.seed": 6}), return_state=True
    )
    with pytest.raises(ResourceError, match=r"MLflow.*make up"):
        state.result()

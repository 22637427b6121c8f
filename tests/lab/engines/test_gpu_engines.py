"""vLLM's and TensorRT-LLM's drivers end to end, through a real container engine and a real Slurm: planned, built,
served by a program that takes their command lines, asked, stopped. The right answers are llama.cpp's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.config.engine import BootsConfig, EngineConfig
from slipway.config.target import TargetConfig
from slipway.engines.bundle import read_plan
from slipway.engines.serving import Service
from slipway.errors import EngineError
from slipway.stages.engine import EngineParams
from slipway.stages.evaluate import EvaluateParams, evaluate
from slipway.store.artifacts import Checkpoint, Engine
from slipway.store.store import Store
from tests.lab import engine_run
from tests.lab.engine_lab import EngineImages
from tests.lab.engine_run import SMALL, answers, bundle_of
from tests.lab.slurm_lab import SlurmLab

# docker's client leaves the socket of an engine that was stopped to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
QUICK = {"LAB_COMPILE_S": "1"}
ENGINES = [  # kind, image, contract
    ("vllm", "vllm", "0.26.0"),
    ("trtllm", "trtllm", "1.3.0rc24"),
    ("trtllm-engine", "trtllm-1.2", "1.2.1"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def base(store: Store, engine_images: EngineImages) -> Checkpoint:
    return engine_run.checkpoint_of(store, engine_images)


@pytest.fixture(scope="module")
def expected(store: Store, base: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """llama.cpp's answers, by its own driver on this machine."""
    made = bundle_of(store, base, EngineParams(context=256, slots=2, threads=1), "llamacpp")
    return answers(service(made, TargetConfig(), tmp_path_factory.mktemp("llamacpp")))


@pytest.fixture
def images(engine_images: EngineImages) -> Iterator[EngineImages]:
    """The images, and proof that a test leaves no container of Slipway's behind."""
    yield engine_images
    if left := engine_images.lab.podman("ps", "--all", "--format", "{{.Names}}").split():
        engine_images.lab.podman("rm", "--all", "--force", "--time", "0")
    assert left == []


def service(made: Engine, machine: TargetConfig, work: Path) -> Service:
    return Service(made.path, read_plan(made.path, here=False), machine, work)


def params(kind: str, tag: str, contract: str, images: EngineImages, machine: TargetConfig) -> EngineParams:
    section = EngineConfig(kind=kind, image=tag, environment=QUICK, **SMALL)
    return EngineParams(**section.model_dump(), serving=machine, serving_image=images.image(tag, contract))


@pytest.mark.parametrize(("kind", "tag", "contract"), ENGINES)
def test_an_engine_in_its_image_is_built_and_evaluated(
    kind, tag, contract, store, base, images, expected, tmp_path
) -> None:
    machine = images.target()
    made = bundle_of(store, base, params(kind, tag, contract, images, machine), f"{kind}-docker")
    plan = read_plan(made.path, here=False)
    assert plan.image == f"{images.lab.registry}/lab/engines@{images.image(tag, contract).digests[images.lab.arch]}"
    boots = json.loads((made.path / "boots.json").read_text())
    assert [(boot["start"], boot["cold_because"], boot["settled"]) for boot in boots] == [
        ("cold", [], True),
        ("warm", [], True),
    ]
    data = engine_run.rows_of(store)
    evaluation = EvaluateParams(max_new_tokens=engine_run.ANSWER_TOKENS, serving=machine)
    evaluate(made, data, evaluation, engine_run.workspace(store, tmp_path, f"evaluate-{kind}"))
    items = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    assert len(items) == len(expected)
    assert answers(service(made, machine, tmp_path / "served")) == expected


@pytest.mark.parametrize(("kind", "tag", "contract"), ENGINES)
def test_an_engine_under_slurm_answers_the_same(
    kind, tag, contract, store, base, images, expected, slurm_lab: SlurmLab, tmp_path
) -> None:
    machine = engine_run.slurm_target()
    engine_run.write_slurm_image(slurm_lab, images, images.image(tag, contract))
    once = params(kind, tag, contract, images, machine).model_copy(update={"boots": BootsConfig(cold=1, warm=0)})
    made = bundle_of(store, base, once, f"{kind}-slurm")
    assert answers(service(made, machine, tmp_path / "served")) == expected
    assert slurm_lab.ask("squeue", "--noheader", "--states=RUNNING,PENDING") == ""


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("no-engine", r"rank0\.engine: missing"),
        ("short-engine", r"rank0\.engine.*at least"),
        ("cut-engine", r"(?s)died.*Serialization assertion failed"),  # long enough: the first start finds it
    ],
)
def test_a_build_that_says_completed_and_wrote_no_whole_engine_is_refused(
    fault: str, reason: str, store, base, images
) -> None:
    machine = images.target()
    right = params("trtllm-engine", "trtllm-1.2", "1.2.1", images, machine)
    wrong = right.model_copy(update={"environment": {**QUICK, "LAB_FAULT": fault}})
    with pytest.raises(EngineError, match=reason):
        bundle_of(store, base, wrong, fault)
    assert not store.dir(Engine.kind, fault).exists()


def test_warm_up_goes_on_while_the_server_compiles_and_the_next_start_does_not(store, base, images) -> None:
    machine = images.target()
    quiet = params("vllm", "vllm", "0.26.0", images, machine)
    busy = quiet.model_copy(update={"environment": {**QUICK, "LAB_FAULT": "compiles"}})
    made = bundle_of(store, base, busy, "compiles")
    cold, warm = json.loads((made.path / "boots.json").read_text())
    assert (cold["start"], cold["compiled"], cold["settled"]) == ("cold", 3, True)
    assert cold["passes"] > 1
    assert (warm["start"], warm["compiled"], warm["passes"]) == ("warm", 0, 1)
    kernels = {file.name for file in (made.path / "caches").rglob("*.cubin")}
    assert {f"_late_kernel_{number}.cubin" for number in (1, 2, 3)} <= kernels

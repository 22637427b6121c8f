"""An engine onto the tests' cluster: refused for another GPU before anything is packed, named, asked, switched to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.config.deploy import DeployConfig
from slipway.config.layers import read_mapping
from slipway.config.load import section
from slipway.config.target import TargetConfig
from slipway.deployment import kubernetes_promotion
from slipway.deployment.bundle_release import PackedRelease
from slipway.deployment.kubernetes_promotion import (
    Shipment,
    check,
    next_name,
    promote,
    require_kubernetes,
    rollback,
    source_row,
)
from slipway.deployment.oci_layout import OciLayout
from slipway.deployment.start_document import measured_start
from slipway.errors import ConfigError, EngineError, StateError
from slipway.store.artifacts import Engine
from slipway.store.store import Store
from tests.support.kubernetes_scene import ONE, TWO, Scene, fine, release
from tests.support.kubernetes_server import kubernetes_server
from tests.support.shippable import DOCUMENTS, PLAN, checkpoint, gpu_engine

DEPLOY = DeployConfig(target="dgx-kubernetes")


def row(name: str) -> TargetConfig:
    target: TargetConfig = section("serving", read_mapping(Path(f"conf/targets/{name}.yaml")), ())
    return target


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with kubernetes_server(tmp_path) as (cluster, config):
        yield Scene(cluster, config)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """A vLLM engine for a Spark, without caches."""
    store = Store(tmp_path / "store")
    made = gpu_engine(store, "k", checkpoint(store, "k"))
    for file in (made.path / "caches").rglob("*"):
        if file.is_file():
            file.unlink()
    (made.path / "serve.json").write_text(PLAN.model_copy(update={"target": "spark"}).model_dump_json())
    return made


def shipment(engine: Engine) -> Shipment:
    return Shipment(engine, DOCUMENTS, "home-pico", {"engine": engine.digest})


def test_an_engine_of_a_spark_is_not_shipped_to_an_h100(scene: Scene, engine: Engine, tmp_path: Path) -> None:
    spark = row("spark")
    manifest = engine.path / "manifest.json"
    document = json.loads(manifest.read_text())
    document["provenance"]["params"]["serving"] = spark.model_dump(mode="json")
    manifest.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="run again engine, evaluate, gate"):
        promote(
            shipment(engine),
            DEPLOY,
            scene.params(),
            row("dgx-h100"),
            tmp_path / "store",
            owner="me",
            note=lambda _: None,
        )
    assert not (tmp_path / "store/bundles").exists()
    assert not [call for call in scene.cluster.requests if not call.startswith("GET")]


def test_what_is_packed_is_pushed_and_its_digest_is_what_the_pods_mount(
    scene: Scene, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry is a lab's; here its answer is the digest that was packed. The pods' program is no vLLM: it dies."""
    packed: list[PackedRelease] = []

    def pushed(one: PackedRelease, repository: str, note: object) -> str:
        packed.append(one)
        return f"sha256:{one.bundle.digest}"

    monkeypatch.setattr(kubernetes_promotion, "push", pushed)
    spark = row("spark").model_copy(update={"arch": "amd64"})
    argv = ["python3", "-c", "raise SystemExit('no GPU here')", "{model}"]
    (engine.path / "serve.json").write_text(PLAN.model_copy(update={"target": "spark", "argv": argv}).model_dump_json())
    monkeypatch.setattr(kubernetes_promotion, "source_row", lambda engine, serving: serving)
    with pytest.raises(EngineError, match="no GPU here"):
        promote(shipment(engine), DEPLOY, scene.params(), spark, tmp_path / "store", owner="me")
    (one,) = packed
    name = f"0001-{engine.digest[:8]}"
    assert one.name == name
    assert OciLayout(tmp_path / "store/bundles").digest_of(name) == one.bundle.digest
    pod = scene.cluster.objects["Deployment", f"chat-{name}"]["spec"]["template"]
    assert pod["spec"]["volumes"][0]["image"]["reference"].endswith(f"@sha256:{one.bundle.digest}")
    assert pod["spec"]["containers"][0]["command"][3] == "/mnt/models/engine/model"
    assert pod["metadata"]["annotations"]["slipway.digest/engine"] == engine.digest
    assert scene.target().status().serving is None


def test_a_candidate_without_recorded_answers_must_answer_one_question(scene: Scene, engine: Engine) -> None:
    from slipway.deployment.kubernetes_api import KubernetesAPI

    notes: list[str] = []
    for name, mode in ((ONE, "serve"), (TWO, "key")):
        scene.target().promote(release(name, mode), fine)
        api = KubernetesAPI(scene.params())
        if mode == "serve":
            check(api, scene.params(), release(name), shipment(engine), notes.append)
            assert "it is asked one question" in notes[0]
        else:
            with pytest.raises(EngineError, match=f"candidate {TWO}: 401"):
                check(api, scene.params(), release(name), shipment(engine), notes.append)
    check(api, scene.params(api_key={"name": "key"}), release(TWO), shipment(engine), notes.append)
    assert "its answers were not compared" in notes[-1]


def test_a_rollback_by_hand(scene: Scene) -> None:
    for name in (ONE, TWO):
        scene.target().promote(release(name), fine)
    assert rollback(None, scene.params(), owner="me") == ONE


def test_names_count_on(engine: Engine) -> None:
    assert next_name([], engine.digest) == f"0001-{engine.digest[:8]}"
    assert next_name(["0002-00000000", "0010-11111111"], "f" * 64) == "0011-ffffffff"


def test_the_longest_measured_start_and_the_row_are_read_from_the_bundle(engine: Engine) -> None:
    assert measured_start(engine.path) is None  # `[]`
    boot = {"start": "cold", "ready_s": 31.5, "steps": {}, "first_answer_s": 1, "tokens_per_s": 9}
    (engine.path / "boots.json").write_text(json.dumps([boot, {**boot, "start": "warm", "ready_s": 8}]))
    assert measured_start(engine.path) == 31.5
    (engine.path / "boots.json").write_text('[{"start": "hot"}]')
    with pytest.raises(StateError, match="measured starts"):
        measured_start(engine.path)
    assert source_row(engine, row("spark")).arch == "arm64"


def test_a_target_without_its_section_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"deploy\.kubernetes: absent"):
        require_kubernetes(DeployConfig())

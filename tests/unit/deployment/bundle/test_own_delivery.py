"""A release of this machine: the bundle that any target gets, its large files linked and not written again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from slipway.agent.agent import Agent
from slipway.agent.bundle.layers import Layers
from slipway.config.deploy import DeployConfig
from slipway.config.trust import SigningConfig, TrustConfig
from slipway.deployment.bundle.files import LARGE
from slipway.deployment.bundle.oci_layout import OciLayout
from slipway.deployment.bundle.own_delivery import deliver_here
from slipway.deployment.bundle.release import architecture_of, pack
from slipway.deployment.bundle.signing import signer_for, trust_of
from slipway.deployment.bundle.verification import verify
from slipway.deployment.promotion import promote
from slipway.errors import BundleError, CheckpointError, ConfigError
from slipway.store.artifacts import Dataset, Engine, SearchIndex
from slipway.store.store import Store
from tests.support.shippable import checkpoint, files_of_an_index, gpu_engine
from tests.support.target import make_engine, make_verdict

DOCUMENTS = {"card.md": "# Card\n"}


@pytest.fixture
def engine(store: Store) -> Engine:
    """A bundle whose model is large enough for a layer of its own."""
    return make_engine(store, {"answer": "{}", "padding": "x" * LARGE})


def deliver(
    engine: Engine, params: DeployConfig, notes: list[str] | None = None, index: SearchIndex | None = None
) -> dict[str, str]:
    agent = Agent(Path(params.root))
    note = notes.append if notes is not None else (lambda _: None)
    return deliver_here(engine, params, agent, note, documents=DOCUMENTS, model="m", index=index)


def linked(engine: Engine, params: DeployConfig) -> bool:
    files = list(Path(params.root).glob("layers/*/engine/model.gguf"))
    return len(files) == 1 and files[0].samefile(engine.path / "model.gguf")


def test_its_digest_is_that_of_any_target_and_its_model_is_linked(
    engine: Engine, store: Store, params: DeployConfig, tmp_path: Path
) -> None:
    notes: list[str] = []
    named = deliver(engine, params, notes)
    signer = signer_for(SigningConfig(), store.root)
    there = pack(
        engine, DOCUMENTS, signer, OciLayout(tmp_path / "bundles"), name="n", model="m",
        architecture=architecture_of(engine),
    )  # fmt: skip
    assert named["manifest"] == there.bundle.digest
    assert linked(engine, params) and any("0.0 MB of large files copied" in note for note in notes)
    assert list(Path(params.root, "incoming").iterdir()) == []
    assert deliver(engine, params)["manifest"] == named["manifest"]  # again: nothing is in the way


def test_an_index_is_linked_too_and_damaged_bytes_of_it_are_refused(
    engine: Engine, store: Store, params: DeployConfig
) -> None:
    index = files_of_an_index(store, "i")
    deliver(engine, params, index=index)
    (there,) = Path(params.root).glob("layers/*/index/vectors.faiss")
    assert there.samefile(index.path / "vectors.faiss")
    (index.path / "chunks.jsonl").write_text("other\n")
    with pytest.raises(CheckpointError, match=r"index .*: chunks\.jsonl has another sha256"):
        deliver(engine, params, index=index)


def test_a_promoted_release_verifies_and_a_flipped_byte_is_named(
    engine: Engine, store: Store, data: Dataset, params: DeployConfig
) -> None:
    release = promote(engine, make_verdict(store, engine), data, DOCUMENTS, params, model="m")
    trust = trust_of(TrustConfig(policy="enforce"), signer_for(SigningConfig(), store.root))
    (verified,) = verify(Path(release.path), trust)
    assert verified.kind == "release" and verified.signed[0].startswith("manifest signed by key")
    assert verified.parts["sbom"] == verified.parts["card"] == verified.parts["engine-file"] == 1
    with (Path(release.path) / "engine/model.gguf").open("r+b") as file:
        file.write(b"[")
    with pytest.raises(BundleError, match=r"model\.gguf"):
        verify(Path(release.path), trust)


def test_a_file_of_the_store_under_another_umask_is_linked_all_the_same(engine: Engine, params: DeployConfig) -> None:
    (engine.path / "model.gguf").chmod(0o600)
    deliver(engine, params)
    assert linked(engine, params) and (engine.path / "model.gguf").stat().st_mode & 0o777 == 0o644


def test_a_layer_that_was_damaged_here_is_made_anew(engine: Engine, params: DeployConfig) -> None:
    deliver(engine, params)
    (file,) = Path(params.root).glob("layers/*/engine/model.gguf")
    file.unlink()
    file.write_bytes(b"x" * (engine.path / "model.gguf").stat().st_size)
    deliver(engine, params)
    assert linked(engine, params)


def test_an_engine_that_is_not_as_its_manifest_says_is_refused(engine: Engine, params: DeployConfig) -> None:
    with (engine.path / "model.gguf").open("r+b") as file:
        file.write(b"[")
    with pytest.raises(CheckpointError, match=r"model\.gguf has another sha256"):
        deliver(engine, params)
    assert not Path(params.root, "layers").exists()


def test_a_checkpoint_keeps_its_files_which_are_linked(tmp_path: Path, params: DeployConfig) -> None:
    store = Store(tmp_path / "store")
    made = gpu_engine(store, "e", checkpoint(store, "q"))
    with pytest.raises(ConfigError, match="made for arm64"):  # this machine's are other processors
        deliver(made, params)
    slurm = params.model_copy(update={"kind": "slurm"})  # its nodes may be any
    named = deliver(made, slurm)
    members = Layers(Path(params.root)).bundle(named["manifest"]).members()
    assert {name for name in members if name.endswith(".safetensors")} == {
        f"engine/model/{file.name}" for file in (store.root / "quantized/q").glob("*.safetensors")
    }


def test_a_target_of_this_machine_trusts_the_store_that_promoted_first(
    engine: Engine, params: DeployConfig, tmp_path: Path
) -> None:
    notes: list[str] = []
    deliver(engine, params, notes)
    assert any(note.startswith("signed by") for note in notes)
    shutil.copytree(engine.path, tmp_path / "other/engine/e")
    stranger = engine.model_copy(update={"uri": str(tmp_path / "other/engine/e")})
    deliver(stranger, params, notes)
    assert notes[-2].startswith("warning: ")
    enforcing = params.model_copy(update={"trust": TrustConfig(policy="enforce")})
    with pytest.raises(BundleError, match="sign"):
        deliver(stranger, enforcing)
    deliver(engine, params)  # its own signer's, though the file enforces now
    with pytest.raises(BundleError, match="sign"):
        deliver(stranger, params)


def test_an_enforcing_target_takes_its_own_signer_only(engine: Engine, params: DeployConfig, tmp_path: Path) -> None:
    from slipway.agent.bundle.signature import write_trust

    other = signer_for(SigningConfig(), tmp_path / "elsewhere")
    write_trust(Path(params.root), trust_of(TrustConfig(policy="enforce"), other))
    with pytest.raises(BundleError, match="sign"):
        deliver(engine, params)


def test_a_store_on_another_file_system_is_copied(
    engine: Engine, params: DeployConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    def other_device(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", other_device)
    notes: list[str] = []
    deliver(engine, params, notes)
    assert not linked(engine, params) and any("1.0 MB of large files copied" in note for note in notes)
    shutil.rmtree(engine.path)
    assert next(Path(params.root).glob("layers/*/engine/model.gguf")).stat().st_size > LARGE

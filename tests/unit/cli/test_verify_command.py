"""`slipway verify` in the terminal: a table or JSON for what is whole, exit 2 and one error for what is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.cli import app
from slipway.deployment.promotion import promote
from slipway.deployment.state import stop
from slipway.store.store import Store
from tests.support.shippable import packed
from tests.support.target import make_data, make_engine, make_verdict, target_params


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["slipway", "verify", *words])
    with pytest.raises(SystemExit) as ended:
        app.main()
    return int(ended.value.code or 0)


def test_a_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    release = packed(Store(tmp_path / "store"), tmp_path / "layout")
    key = ["--key", str(tmp_path / "store/signing/key.pub")]
    assert run(monkeypatch, str(tmp_path / "layout"), *key) == 0
    shown = capsys.readouterr().out
    assert f"sha256:{release.bundle.digest}" in shown
    assert "files signed by key" in shown
    assert run(monkeypatch, str(tmp_path / "layout"), *key, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["verified"]
    assert (row["digest"], row["kind"]) == (release.bundle.digest, "layout")
    (tmp_path / "layout/blobs/sha256" / release.bundle.layers[0].digest).unlink()
    assert run(monkeypatch, str(tmp_path / "layout"), *key) == 2
    assert "missing" in capsys.readouterr().err
    assert run(monkeypatch, str(tmp_path / "layout"), *key, "--json") == 2
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "BundleError"


def test_a_target_by_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params, store = target_params(str(tmp_path / "target")), Store(tmp_path / "store")
    (tmp_path / "conf/deploy").mkdir(parents=True)
    (tmp_path / "conf/deploy/here.yaml").write_text(f"target: here\nroot: {params.root}\ntrust: {{policy: enforce}}\n")
    (tmp_path / "conf/base.yaml").write_text(f"store: {{root: '{store.root}'}}\n")
    words = ["here", "--conf", str(tmp_path / "conf")]
    assert run(monkeypatch, *words) == 2
    assert "nothing serves there" in capsys.readouterr().err
    engine = make_engine(store, {"answer": "{}"})
    try:
        release = promote(engine, make_verdict(store, engine), make_data(store), {}, params, model="m")
    finally:
        stop(params)
    assert run(monkeypatch, *words) == 0
    assert "manifest signed by key" in capsys.readouterr().out
    (Path(release.path) / "engine/model.gguf").chmod(0o640)
    assert run(monkeypatch, *words) == 2
    assert "mode 0640" in capsys.readouterr().err


def test_what_is_no_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, str(tmp_path)) == 2
    assert "no release" in capsys.readouterr().err
    assert run(monkeypatch, str(tmp_path), "--key", str(tmp_path / "none.pem")) == 2
    assert "a readable PEM file" in capsys.readouterr().err

"""What goes from a store and what stays; a kill in the middle; stores that somebody else has written into."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.config.load import Config
from slipway.engines.served import mark
from slipway.errors import ResourceError, SlipwayError, StateError
from slipway.ops.gc import Item, collect, freeable, plan
from slipway.report.record import RunRecord
from slipway.store.artifacts import (
    Adapter,
    Artifact,
    Checkpoint,
    Chunks,
    Corpus,
    Dataset,
    Engine,
    Evaluation,
    SearchIndex,
    Vectors,
    Verdict,
)  # fmt: skip
from slipway.store.references import reference_to
from slipway.store.store import Store, load, verify
from slipway.store.usage import in_use
from slipway.system.locks import locked
from tests.support.record import put, record

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def run(tmp_path: Path) -> RunRecord:
    return record(tmp_path)


@pytest.fixture
def store(tmp_path: Path, run: RunRecord) -> Store:
    """The store of a whole run, and beside it what nothing needs."""
    store = Store(tmp_path / "store")
    base = put(store, Checkpoint, "fetch", "oldbase", {"a": "old"})
    os.utime(base.path, (1, 1))
    old = put(store, Engine, "engine", "old", {"model.gguf": "x" * 1000}, checkpoint=base)
    os.utime(old.path, (1, 1))
    return store


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config.model_validate(
        {"store": {"root": str(tmp_path / "store")}, "deploy": {"root": str(tmp_path / "target")}}
    )


def fates(config: Config) -> dict[str, str]:
    return {item.name: item.action for item in plan(config)}


def why(items: list[Item], name: str) -> str:
    return next(item.why for item in items if item.name == name)


def names(items: list[Item]) -> set[str]:
    return {item.name for item in items}


def last_run(store: Store, *digests: str) -> None:
    (store.root / "last-run.json").write_text(json.dumps({"stages": [{"digest": digest} for digest in digests]}))


def release(root: Path, name: str, engine: Engine, serves: bool, **digests: str) -> None:
    folder = root / "releases" / name
    shutil.copytree(engine.path, folder / "engine", copy_function=os.link)
    document = {
        "name": name,
        "path": str(folder),
        "model": "m",
        "created": "2026-01-01T00:00:00Z",
        "outcome": "pass",
        "digests": {"engine": engine.digest, **digests},
    }
    (folder / "release.json").write_text(json.dumps(document))
    if serves:
        (root / "current").symlink_to(f"releases/{name}")


def test_the_newest_verdict_and_adapter_and_all_they_were_made_from_stay(config: Config, store: Store) -> None:
    items = plan(config)
    assert names([i for i in items if i.action == "remove"]) == {"old", "oldbase"}
    assert why(items, "v") == "the newest verdict of home-smollm2-135m, or what it was made from"
    assert why(items, "base") == "the newest verdict of home-smollm2-135m, or what it was made from"
    going = [i for i in items if i.action == "remove"]
    assert freeable(items) == {"count": 2, "bytes": sum(i.bytes for i in going)}
    assert freeable(items)["bytes"] > 1000
    assert store.find(Engine, "old"), "a plan touches nothing"


def candidate_of_line(store: Store, name: str, age_s: float) -> None:
    """A verdict and all it was made from, for data called `name`, made `age_s` seconds ago; keys begin with `name`."""
    artifacts: dict[str, Artifact] = {}

    def add(cls: type[Artifact], stage: str, params: dict[str, object], **inputs: str) -> None:
        refs = {role: reference_to(artifacts[of], store.root) for role, of in inputs.items()}
        with store.create(cls, f"{name}-{stage}", {"stage": stage, "params": params, "inputs": refs}) as out:
            (out / "bytes").write_text(f"{name} {stage}")
        artifacts[stage] = load(cls, store.dir(cls.kind, f"{name}-{stage}"))
        os.utime(artifacts[stage].path, (time.time() - age_s,) * 2)

    add(Checkpoint, "fetch", {"name": "base"})
    add(Dataset, "prepare", {"config": {"name": name.rstrip("0123456789")}})
    add(Adapter, "train_cpu", {}, base="fetch", data="prepare")
    add(Checkpoint, "merge", {}, base="fetch", adapter="train_cpu")
    add(Engine, "engine", {}, checkpoint="merge")
    add(Evaluation, "evaluate", {}, engine="engine", data="prepare")
    add(Verdict, "gate", {}, candidate="evaluate")


def test_of_two_lines_in_one_store_each_keeps_its_newest_verdict(config: Config, store: Store) -> None:
    for name, age_s in (("bank1", 500.0), ("bank2", 400.0), ("shop1", 300.0), ("shop2", 200.0)):
        candidate_of_line(store, name, age_s)
    items = plan(config)
    stages = ("fetch", "prepare", "train_cpu", "merge", "engine", "evaluate", "gate")
    going = {i.name for i in items if i.action == "remove"}
    assert going == {f"{name}-{stage}" for name in ("bank1", "shop1") for stage in stages} | {"old", "oldbase"}
    assert why(items, "bank2-engine") == "the newest verdict of bank-base, or what it was made from"
    assert why(items, "shop2-engine") == "the newest verdict of shop-base, or what it was made from"
    assert why(items, "v") == "the newest verdict of home-smollm2-135m, or what it was made from"
    collect(config)
    assert sorted(p.name for p in (store.root / "verdict").iterdir()) == ["bank2-gate", "shop2-gate", "v"]


def test_an_adapter_without_a_verdict_is_its_lines_newest_or_goes(config: Config, store: Store) -> None:
    """A training that no gate has judged yet: hours of work, also when another line was trained after it."""
    for name, age_s in (("bank1", 500.0), ("shop1", 300.0)):
        candidate_of_line(store, name, age_s)
        shutil.rmtree(store.root / "verdict" / f"{name}-gate")
    items = plan(config)
    assert why(items, "bank1-train_cpu") == "the newest adapter of bank-base, or what it was made from"
    assert why(items, "shop1-train_cpu") == "the newest adapter of shop-base, or what it was made from"
    assert {"bank1-engine", "shop1-engine"} <= {i.name for i in items if i.action == "remove"}


def test_verdicts_whose_data_are_gone_count_as_one_line(config: Config, store: Store) -> None:
    for name, age_s in (("bank1", 500.0), ("shop1", 300.0)):
        candidate_of_line(store, name, age_s)
        shutil.rmtree(store.root / "dataset" / f"{name}-prepare")
    items = plan(config)
    assert why(items, "shop1-gate") == "the newest verdict of an unknown line, or what it was made from"
    assert fates(config)["bank1-gate"] == "remove"


def test_what_is_removed_is_gone_and_the_rest_is_intact(config: Config, store: Store) -> None:
    kept = [item.path for item in plan(config) if item.action == "keep"]
    assert names(collect(config)) == {"old", "oldbase"}
    assert not (store.root / "engine/old").exists()
    assert len(kept) == 12
    assert [verify(path) for path in kept] == [None] * 12
    assert collect(config) == []


def test_what_serves_and_what_can_be_rolled_back_to_stay_with_their_lineage(
    config: Config, store: Store, tmp_path: Path, run: RunRecord
) -> None:
    old = load(Engine, store.root / "engine/old")
    release(tmp_path / "target", "0001-" + old.digest[:8], old, serves=False)
    release(tmp_path / "target", "0002-" + run.engine.digest[:8], run.engine, serves=True)
    items = plan(config)
    assert {i.name for i in items if i.action == "remove"} == set()
    assert why(items, "e") == f"release 0002-{run.engine.digest[:8]} of target serves"
    assert why(items, "oldbase") == f"release 0001-{old.digest[:8]} of target can be rolled back to"


def test_targets_in_the_store_count_whatever_the_config_names(config: Config, store: Store) -> None:
    old = load(Engine, store.root / "engine/old")
    release(store.root / "targets/other", "0001-" + old.digest[:8], old, serves=True)
    assert fates(config)["oldbase"] == "keep"


def test_what_the_last_run_made_stays(config: Config, store: Store) -> None:
    old = load(Engine, store.root / "engine/old")
    last_run(store, old.digest)
    items = plan(config)
    assert why(items, "oldbase") == "the last run made or used it"


def searched(store: Store, name: str) -> SearchIndex:
    """An index with all that it was made from."""
    corpus = put(store, Corpus, "corpus", f"{name}-corpus", {"a": name})
    chunks = put(store, Chunks, "chunk", f"{name}-chunks", {"b": name}, corpus=corpus)
    vectors = put(store, Vectors, "embed", f"{name}-vectors", {"c": name}, corpus=corpus, chunks=chunks)
    made = {"corpus": corpus, "chunks": chunks, "vectors": vectors}
    return put(store, SearchIndex, "index", f"{name}-index", {"d": name}, **made)  # type: ignore[no-any-return]


def test_the_index_that_is_searched_stays_with_all_it_was_made_from(config: Config, store: Store) -> None:
    for name in ("opened", "other"):
        searched(store, name)
    pointer = store.root / "current-index"
    pointer.write_text("opened-index dense\n")
    parts = ("corpus", "chunks", "vectors", "index")
    items = plan(config)
    reason = "the index of `slipway rag search`, or what it was made from"
    assert {why(items, f"opened-{part}") for part in parts} == {reason}
    assert "current-index" not in names(items), "a record of the store, and nothing unknown"
    assert {f"other-{part}" for part in parts} <= names(collect(config))
    assert verify(store.root / "index/opened-index") is None
    pointer.write_text("gone-index dense\n")
    assert {f"opened-{part}" for part in parts} <= names(collect(config))


@pytest.mark.parametrize("content", [b"", b"key", b"key sparse", b"../engine/e bm25", b"a b c", b"\xff\xfe bm25"])
def test_a_pointer_that_names_no_index_stops_the_cleaning(config: Config, store: Store, content: bytes) -> None:
    (store.root / "current-index").write_bytes(content)
    with pytest.raises(StateError, match="slipway rag build"):
        collect(config)
    assert store.find(Engine, "old")


def test_the_index_of_a_release_stays(config: Config, store: Store, tmp_path: Path, run: RunRecord) -> None:
    index = searched(store, "served")
    release(tmp_path / "target", "0001-" + run.engine.digest[:8], run.engine, serves=True, index=index.digest)
    items = plan(config)
    assert (
        why(items, "served-index")
        == why(items, "served-corpus")
        == f"release 0001-{run.engine.digest[:8]} of target serves"
    )
    assert not {"served-index", "served-vectors", "served-chunks"} & names(collect(config))


def test_an_artifact_with_a_key_of_before_says_so(config: Config, store: Store) -> None:
    assert why(plan(config), "old") == "its key has format 1: no run reuses it"
    with store.create(Dataset, "now", {"stage": "prepare", "key_format": 2}) as out:
        (out / "a").write_text("x")
    assert why(plan(config), "now") == "no release, not the last run, and nothing that is kept was made from it"


def test_leftovers_go_and_what_is_worked_on_stays(config: Config, store: Store) -> None:
    (store.root / "engine/e.damaged-7").mkdir()
    (store.root / "engine/.tmp-abc-7").mkdir()
    works = {
        name: store.root / "work" / f"{name}-0123456789abcdef" for name in ("merge", "quantize", "train_cpu", "fetch")
    }
    for work in works.values():
        work.mkdir(parents=True)
        work.with_name(f"{work.name}.lock").touch()
    (works["train_cpu"] / "checkpoints/step-5").mkdir(parents=True)
    old = load(Engine, store.root / "engine/old")
    reference = {"engine": {"uri": "engine/old", "kind": "engine", "digest": old.digest}}
    (works["merge"] / "stage.json").write_text(json.dumps({"inputs": reference}))
    (store.root / "work/gone-0123456789abcdef.lock").touch()
    with locked(works["merge"].with_name(f"{works['merge'].name}.lock"), 0.0, "stage merge"):
        items = plan(config)
        removed = names(collect(config))
    assert removed == {
        "e.damaged-7",
        ".tmp-abc-7",
        "quantize-0123456789abcdef",
        "quantize-0123456789abcdef.lock",
        "fetch-0123456789abcdef",
        "fetch-0123456789abcdef.lock",
        "gone-0123456789abcdef.lock",
    }
    assert why(items, "merge-0123456789abcdef") == "a stage works in it"
    assert why(items, "train_cpu-0123456789abcdef") == "the newest unfinished training: run again to resume"
    assert why(items, "oldbase") == "merge-0123456789abcdef works with it or resumes with it"


def test_nothing_is_removed_while_a_run_uses_the_store(config: Config, store: Store) -> None:
    with in_use(store.root), pytest.raises(ResourceError, match=r"store .*busy"):
        collect(config)
    assert store.find(Engine, "old")


def test_old_rotated_logs_go_and_live_ones_stay(config: Config, store: Store) -> None:
    logs = store.root / "services/logs"
    logs.mkdir(parents=True)
    for name in ("mlflow.log", "mlflow.log.1", "mlflow.log.2", "mlflow.log.old"):
        (logs / name).write_text("line\n" * 10)
        os.utime(logs / name, (time.time() - 30 * 86400,) * 2)
    os.utime(logs / "mlflow.log.1")
    assert names([i for i in plan(config) if i.what == "log"]) == {"mlflow.log.2"}


KILLED = """
import os, signal, sys
from pathlib import Path
from slipway.config.load import Config
from slipway.ops import gc
root, target, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])

def after(function):
    def call(*args, **more):
        global steps
        if steps == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        steps -= 1
        return function(*args, **more)
    return call

for name in ("rename", "unlink", "rmdir", "replace"):
    setattr(os, name, after(getattr(os, name)))
gc.collect(Config.model_validate({"store": {"root": root}, "deploy": {"root": target}}))
"""


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 7])
def test_a_kill_in_the_middle_loses_nothing_that_is_kept_and_the_next_time_ends_it(
    config: Config, store: Store, tmp_path: Path, steps: int
) -> None:
    kept = [item.path for item in plan(config) if item.action == "keep"]
    argv = [sys.executable, "-c", KILLED, str(store.root), str(tmp_path / "target"), str(steps)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [verify(path) for path in kept] == [None] * 12
    for path in store.root.glob("*/*"):
        assert path.name.startswith(".tmp-") or verify(path) is None, "an artifact is whole or out of its place"
    collect(config)
    assert {p for p in store.root.glob("*/*") if p.is_dir()} == set(kept)


def _rewrite(manifest: str) -> Callable[[Path], object]:
    return lambda old: (old / "manifest.json").write_text(manifest)


def _manifest_directory(old: Path) -> None:
    (old / "manifest.json").unlink()
    (old / "manifest.json").mkdir()


def _linked(old: Path) -> None:
    old.rename(old.parents[2] / "mine")
    old.symlink_to(old.parents[2] / "mine")


def _replaced(by: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda old: (shutil.rmtree(old), by(old))


def _renamed(to: str) -> Callable[[Path], object]:
    """The artifact under another name, and something of somebody's in its place."""
    return lambda old: (old.rename(old.parent / to), old.mkdir())


def _nested(old: Path) -> None:
    old.rename(old.parent / "aside")
    old.mkdir()
    (old.parent / "aside").rename(old / "engine")


# Stores that somebody has been at: what was done to the artifact `old` in them
STRANGE: dict[str, Callable[[Path], object]] = {
    "no manifest": lambda old: (old / "manifest.json").unlink(),
    "garbage for a manifest": _rewrite("{"),
    "a manifest that is another's": _rewrite('{"kind": "engine", "key": "x", "digest": "d", "provenance": {}}'),
    "a manifest of a directory": _manifest_directory,
    "an artifact linked from elsewhere": _linked,
    "a link to nothing": _replaced(lambda old: old.symlink_to("/nowhere")),
    "a file of somebody's": _replaced(lambda old: old.write_text("mine")),
    "a pipe": _replaced(lambda old: os.mkfifo(old)),
    "another key in the folder's name": _renamed("oldrenamed"),
    "a copy under a name of its own": _renamed("old copy"),
    "a kind within a kind": _nested,
}


@pytest.mark.parametrize("kind", STRANGE)
def test_what_slipway_did_not_write_is_listed_as_unknown_and_stays(config: Config, store: Store, kind: str) -> None:
    STRANGE[kind](store.root / "engine/old")

    def everything() -> set[Path]:
        return {p for p in store.root.parent.rglob("*") if "old" in p.name or "mine" in str(p)}

    before = {p for p in everything() if "oldbase" not in str(p)}
    assert fates(config)["old"] == "unknown"
    assert "old" not in names(collect(config))
    assert {p for p in everything() if "oldbase" not in str(p)} == before


@pytest.mark.parametrize("text", ["{", '{"stages": 3}', "[]"])
def test_without_a_record_that_says_what_is_needed_nothing_is_removed(config: Config, store: Store, text: str) -> None:
    (store.root / "last-run.json").write_text(text)
    with pytest.raises(SlipwayError, match=r"last-run\.json"):
        collect(config)
    assert store.find(Engine, "old")


def test_a_release_that_cannot_be_read_stops_it(config: Config, store: Store, run: RunRecord, tmp_path: Path) -> None:
    name = "0001-" + run.engine.digest[:8]
    release(tmp_path / "target", name, run.engine, serves=True)
    (tmp_path / "target/releases" / name / "release.json").write_text("{}")
    with pytest.raises(StateError, match="record of release"):
        collect(config)
    assert store.find(Engine, "old")


def test_no_store_is_nothing_to_do(config: Config) -> None:
    assert collect(config) == []
    assert plan(config) == []


def test_the_command_shows_and_removes_only_when_asked(store: Store, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/base.yaml").write_text(
        f"store: {{root: {store.root}}}\ndeploy: {{root: {tmp_path / 'target'}}}\n"
    )

    def slipway(*words: str) -> str:
        argv = [sys.executable, "-m", "slipway", "gc", "--conf", str(tmp_path / "conf"), *words]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    shown = slipway()
    assert "its key has format 1" in shown
    assert "2 entries" in shown
    assert "slipway gc --yes" in shown
    document = json.loads(slipway("--json"))
    assert (document["removed"], document["count"]) == (False, 2)
    assert {i["action"] for i in document["items"]} == {"keep", "remove"}
    assert store.find(Engine, "old")
    assert "removed 2 entries" in slipway("--yes")
    assert store.find(Engine, "old") is None
    assert store.find(Adapter, "adapter")


def served(root: Path, name: str, age_days: float) -> Path:
    home = root / "serve" / name
    (home / "bundle").mkdir(parents=True)
    (home / "bundle" / "model.gguf").write_bytes(bytes(1000))
    mark(home, Path("/models") / name)
    os.utime(home / "served.json", (time.time() - age_days * 86400,) * 2)
    return home


def test_what_slipway_serve_left_goes_after_two_weeks_and_what_serves_stays(store: Store, config: Config) -> None:
    for name, age in (("a" * 12, 1), ("b" * 12, 20), ("c" * 12, 20)):
        served(store.root, name, age)
    (store.root / "serve" / "mine").mkdir()
    with locked(store.root / "serve" / ("c" * 12) / "server-0" / ".lock", 0.0, "serve"):
        items = [item for item in collect(config) if item.what == "served"]
        assert [(item.name, item.why) for item in items] == [
            ("b" * 12, f"last served 20 days ago; `slipway serve` makes it again: /models/{'b' * 12}")
        ]
        assert items[0].bytes > 1000
        kept = {item.name: item.why for item in plan(config) if item.what == "served"}
        assert kept == {
            "a" * 12: f"served 1 days ago: /models/{'a' * 12}",
            "c" * 12: f"a server uses it: /models/{'c' * 12}",
        }
    assert sorted(path.name for path in (store.root / "serve").iterdir()) == ["a" * 12, "c" * 12, "mine", "room.lock"]

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipway.config.data import DataConfig, EarlierData
from slipway.config.load import load_config
from slipway.data.dvc_lock import digest_now
from slipway.data.funnel import Step
from slipway.errors import CheckpointError, DataError
from slipway.pipeline.workspace import Workspace
from slipway.stages.prepare import PrepareParams, needs_of, prepare, prepare_params
from slipway.store.artifacts import Checkpoint, Dataset
from slipway.store.store import Store, load
from slipway.system.progress import Progress
from tests.support.pico import write_tokenizer

ROOT = Path(__file__).resolve().parents[3]
WORDINGS = [
    "switch the {} on please",
    "could you start my {}",
    "I want {} running now",
    "make our {} go",
    "{} on",
    "please activate {}",
]
DEVICES = ["lamp", "fan", "radio", "heater", "tv"]


def row(text: str, answer: Any, **more: Any) -> dict[str, Any]:
    content = answer if isinstance(answer, str) else json.dumps(answer, sort_keys=True, separators=(",", ":"))
    return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": content}], **more}


def good_rows() -> list[dict[str, Any]]:
    return [row(wording.format(d), {"intent": "On", "name": d}) for wording in WORDINGS for d in DEVICES]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def append(path: Path) -> None:
    path.write_text(path.read_text() + "\n")


@pytest.fixture
def base(tmp_path: Path) -> Checkpoint:
    model = tmp_path / "model"
    model.mkdir()
    write_tokenizer(model)
    return Checkpoint(uri=str(model), digest="0")


@pytest.fixture
def run(tmp_path: Path, base: Checkpoint) -> Callable[..., Path]:
    def go(source: Path, label_key: str | None = "intent", **config: Any) -> Path:
        space = Workspace(tmp_path / "out", tmp_path / "work", tmp_path / "cache", Progress())
        for folder in (space.out, space.work):
            folder.mkdir(exist_ok=True)
        prepare(base, prepare_params(DataConfig(raw=str(source), label_key=label_key, **config), tmp_path), space)
        return space.out

    return go


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_own_rows_become_splits_with_a_card(tmp_path: Path, run: Callable[..., Path]) -> None:
    out = run(write(tmp_path / "mine.jsonl", good_rows()), system="Answer in JSON.")
    train, test = lines(out / "train.jsonl"), lines(out / "test.jsonl")
    assert (len(train), len(test)) == (25, 5)  # six wordings, one held out: the text with the answer's values masked
    assert {r["template"] for r in train}.isdisjoint(r["template"] for r in test)
    assert train[0]["messages"][0] == {"role": "system", "content": "Answer in JSON."}
    assert set(train[0]) == {"id", "messages", "label", "template"}
    summary = json.loads((out / "summary.json").read_text())
    assert summary["train_rows"] == 25
    assert summary["license"] == "not stated"
    assert summary["source_revision"] == "not tracked by DVC"
    assert summary["task"][0] == "json"
    assert 0 < summary["longest_answer_tokens"] < summary["tokens_max"]
    # One character is one token of the pico tokenizer, special tokens included.
    # The line feed after the last end of turn is not trained
    assert summary["tokens_max"] == max(_characters(r) for r in [*train, *test]) - 1
    assert "| On | 25 | 0 | 5 |" in (out / "card.md").read_text()
    assert str(tmp_path) not in (out / "card.md").read_text() + (out / "summary.json").read_text()


def _characters(r: dict[str, Any]) -> int:
    return sum(1 + len(f"{m['role']}\n{m['content']}") + 2 for m in r["messages"])


def test_the_same_rows_make_the_same_bytes(tmp_path: Path, run: Callable[..., Path]) -> None:
    first = digest_now(run(write(tmp_path / "mine.jsonl", good_rows())))
    second = digest_now(run(tmp_path / "mine.jsonl"))
    assert first == second


BAD = [
    ("{", "not JSON: "),
    ("[1]", "a JSON list, expected an object"),
    ('{"messages": NaN}', "not JSON: NaN"),
    ({"body": "hello"}, "columns 'body': expected messages, conversations"),
    ({"id": "a"}, "columns 'id': expected messages"),
    ({"messages": []}, "messages is empty"),
    ({"messages": [{"role": "user"}]}, "messages[0].content is None, expected text"),
    ({"messages": [{"role": "critic", "content": "x"}]}, "messages[0].role is 'critic'"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role tool cannot follow the start"),
    ({"messages": [{"role": "assistant", "content": "x"}]}, "messages[0].role assistant cannot follow the start"),
    (
        {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]},
        "messages[1].role user cannot follow user",
    ),
    ({"messages": [{"role": "user", "content": "a"}]}, "the last message is the user's, expected the assistant's"),
    (row("   ", {"intent": "On"}), "messages[0].content is '   ', expected text"),
    (row("lamp", "sure"), "the assistant's content is no JSON object"),
    (row("lamp", {"name": "lamp"}), "the assistant's JSON lacks 'intent'"),
    (row("lamp", {"intent": 3}), "the assistant's JSON has intent=3, expected text"),
    (row("lamp", {"intent": "On"}, label="Off"), "label is 'Off' but the assistant's JSON says 'On'"),
    (row("lamp", {"intent": "On"}, template=""), "template is '', expected text"),
    (row("lamp", {"intent": "On"}, id="first"), "id 'first' is also on line 1"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_a_bad_row_is_named_by_file_line_and_reason(
    tmp_path: Path, run: Callable[..., Path], bad: Any, reason: str
) -> None:
    rows = good_rows()
    rows[0]["id"] = "first"
    with pytest.raises(DataError) as err:
        run(write(tmp_path / "mine.jsonl", [*rows, bad]))
    assert f"mine.jsonl:31: {reason}" in str(err.value)
    assert "1 bad of 31 rows" in str(err.value)
    [listed] = lines(tmp_path / "work" / "rejected.jsonl")
    assert (listed["file"], listed["line"]) == ("mine.jsonl", 31)
    assert listed["reason"].startswith(reason)
    assert list((tmp_path / "out").iterdir()) == []


def test_ten_bad_rows_are_shown_and_all_are_listed(tmp_path: Path, run: Callable[..., Path]) -> None:
    with pytest.raises(DataError) as err:
        run(write(tmp_path / "mine.jsonl", [*good_rows(), *["{"] * 13]))
    assert "13 bad of 43 rows" in str(err.value)
    assert str(err.value).count("mine.jsonl:") == 10
    assert "and 3 more" in str(err.value)
    assert len(lines(tmp_path / "work" / "rejected.jsonl")) == 13


def test_a_row_too_long_is_refused(tmp_path: Path, run: Callable[..., Path]) -> None:
    long = row("turn on " + "very " * 30 + "slowly", {"intent": "On", "name": "lamp"}, id="long", template="t")
    with pytest.raises(DataError, match=r"row 'long' has 2\d\d tokens, more than data.max_tokens=100"):
        run(write(tmp_path / "mine.jsonl", [*good_rows(), long]), max_tokens=100)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"\n \n", "empty"), (b"\xff\xfe{", "UTF-16")],
    ids=["empty", "blank lines", "not UTF-8"],
)
def test_an_unusable_file_is_named(tmp_path: Path, run: Callable[..., Path], content: bytes, message: str) -> None:
    (tmp_path / "mine.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=message) as err:
        run(tmp_path / "mine.jsonl")
    assert str(tmp_path / "mine.jsonl") in str(err.value)


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(DataError, match=r"data\.raw: .*point data\.raw at a chat JSONL file"):
            prepare_params(DataConfig().model_copy(update={"raw": str(path)}), tmp_path)


def test_data_that_changed_since_planning_is_refused(tmp_path: Path, base: Checkpoint) -> None:
    source = write(tmp_path / "mine.jsonl", good_rows())
    params = prepare_params(DataConfig(raw=str(source)), tmp_path)
    write(source, good_rows()[:-1])
    space = Workspace(tmp_path, tmp_path, tmp_path, Progress())
    with pytest.raises(DataError, match="the data changed meanwhile"):
        prepare(base, params, space)


def test_a_base_without_tokenizer_or_template_is_refused(
    tmp_path: Path, base: Checkpoint, run: Callable[..., Path]
) -> None:
    source = write(tmp_path / "mine.jsonl", good_rows())
    (base.path / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointError, match="no chat template"):
        run(source)
    for file in base.path.iterdir():
        file.unlink()
    with pytest.raises(CheckpointError, match="expected a tokenizer beside the weights"):
        run(source)


def test_one_wording_only_leaves_nothing_to_test(tmp_path: Path, run: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="test split: empty"):
        run(write(tmp_path / "mine.jsonl", good_rows()[:5]))


def test_free_text_answers_need_no_json(tmp_path: Path, run: Callable[..., Path]) -> None:
    rows = [row(wording.format(d), f"The {d} is on.") for wording in WORDINGS for d in DEVICES]
    out = run(write(tmp_path / "mine.jsonl", rows), label_key=None)
    assert {r["label"] for r in lines(out / "train.jsonl")} == {"all"}


def _project(root: Path, per_label: int = 3) -> tuple[DataConfig, PrepareParams]:
    """A project whose dvc.lock says that DVC made data/splits of data/raw/home.jsonl with these params."""
    config = DataConfig(per_label=per_label, label_key="intent")
    raw, splits = root / "data/raw/home.jsonl", root / "data/splits"
    raw.parent.mkdir(parents=True)
    write(raw, good_rows())
    splits.mkdir()
    for name, held in (("train", "a"), ("val", "b"), ("test", "c")):
        rows = [
            row(f"{held} {d}", {"intent": "On", "name": d}, id=f"{held}{d}", label="On", template=held)
            for d in DEVICES[:3]
        ]
        write(splits / f"{name}.jsonl", rows)
    steps = [Step("read", 9, 9, "data.raw").to_json()]
    about = {"source": "home.jsonl is JSON lines", "groups": "3 templates"}
    (splits / "counts.json").write_text(json.dumps({"about": about, "steps": steps, "shares": []}))
    lock = {
        "raw": {"outs": [{"path": "data/raw/home.jsonl", "md5": digest_now(raw)}]},
        "splits": {
            "params": {"conf/data/home.yaml": {"description": "x", "per_label": per_label, "label_key": "intent"}},
            "outs": [{"path": "data/splits", "md5": digest_now(splits)}],
        },
    }
    (root / "dvc.lock").write_text(json.dumps({"stages": lock}))  # JSON is YAML
    return config, prepare_params(config, root)


def test_the_default_corpus_is_read_from_the_splits_of_dvc(tmp_path: Path, base: Checkpoint) -> None:
    _, params = _project(tmp_path)
    assert params.source == str(tmp_path / "data/splits")
    assert params.revision == params.digest
    assert params.license == "Apache-2.0"
    (tmp_path / "out").mkdir()
    prepare(base, params, Workspace(tmp_path / "out", tmp_path, tmp_path, Progress()))
    assert json.loads((tmp_path / "out/summary.json").read_text())["raw_rows"] == 9
    assert params.revision in (tmp_path / "out/card.md").read_text()


def test_other_parameters_than_dvc_used_make_their_own_splits(tmp_path: Path) -> None:
    _project(tmp_path)
    params = prepare_params(DataConfig(per_label=2), tmp_path)
    assert params.source == str(tmp_path / "data/raw/home.jsonl")
    assert params.revision == params.digest
    append(tmp_path / "data/raw/home.jsonl")
    assert prepare_params(DataConfig(per_label=2), tmp_path).revision is None


def test_splits_that_are_not_those_of_the_lock_are_refused(tmp_path: Path) -> None:
    config, _ = _project(tmp_path)
    append(tmp_path / "data/splits/test.jsonl")
    with pytest.raises(DataError, match=r"as in dvc\.lock.*dvc repro"):
        prepare_params(config, tmp_path)
    for file in (tmp_path / "data/splits").iterdir():
        file.unlink()
    (tmp_path / "data/splits").rmdir()
    with pytest.raises(DataError, match=r"splits is missing.*dvc repro"):
        prepare_params(config, tmp_path)


def test_a_broken_lock_is_named(tmp_path: Path) -> None:
    for text in ("stages: [", "{}", "stages: {a: 3}"):
        (tmp_path / "dvc.lock").write_text(text)
        with pytest.raises(DataError, match=r"dvc\.lock: unreadable"):
            prepare_params(DataConfig(), tmp_path)


def test_splits_that_leak_are_refused_even_when_the_digest_fits(tmp_path: Path, base: Checkpoint) -> None:
    _, params = _project(tmp_path)
    train = (tmp_path / "data/splits/train.jsonl").read_text()
    (tmp_path / "data/splits/test.jsonl").write_text(train)
    forged = params.model_copy(update={"digest": digest_now(tmp_path / "data/splits")})
    with pytest.raises(DataError, match="leak between train and test: 1 shared templates, such as 'a'"):
        prepare(base, forged, Workspace(tmp_path, tmp_path, tmp_path, Progress()))


def test_a_file_added_to_dvc_by_hand_has_its_revision(tmp_path: Path) -> None:
    source = write(tmp_path / "mine.jsonl", good_rows())
    config = DataConfig(raw="mine.jsonl", license="CC0-1.0")
    assert prepare_params(config, tmp_path).revision is None
    (tmp_path / "mine.jsonl.dvc").write_text(f"outs:\n- md5: {digest_now(source)}\n  path: mine.jsonl\n")
    params = prepare_params(config, tmp_path)
    assert (params.revision, params.license) == (digest_now(source), "CC0-1.0")


def test_rows_are_checked_against_the_runs_trainer_and_quantization() -> None:
    words = ["train.pack_length=77", "train.learn=all", "quantize.format=nvfp4", "quantize.calibration.samples=3"]
    needs = needs_of(load_config(ROOT / "conf", words))
    assert (needs.learn, needs.longest, needs.truncate, needs.calibration) == ("all", 77, False, (3, 512))
    without = ["quantize.format=mxfp4", "quantize.method=max"]
    assert needs_of(load_config(ROOT / "conf", without)).calibration is None


def test_rows_that_the_model_cannot_learn_are_refused_together_with_their_names(
    tmp_path: Path, run: Callable[..., Path]
) -> None:
    bad = [row(f"say <|im_end|> {i}", {"intent": "On", "name": "lamp"}, template="t") for i in range(2)]
    with pytest.raises(DataError, match=r"(?s)2 of 32 rows .*holds a control token .*\(2 rows: line-31, line-32\)"):
        run(write(tmp_path / "mine.jsonl", [*good_rows(), *bad]), near_duplicate=1.0)
    assert {line["row"] for line in lines(tmp_path / "work" / "rejected.jsonl")} == {"line-31", "line-32"}


def test_the_champions_test_rows_stay_and_new_ones_are_marked(tmp_path: Path, base: Checkpoint) -> None:
    store = Store(tmp_path / "store")

    def made(rows: list[Any], earlier: EarlierData | None, key: str) -> Dataset:
        params = prepare_params(DataConfig(raw=str(write(tmp_path / "x.jsonl", rows)), label_key="intent"), tmp_path)
        params = params.model_copy(update={"earlier": earlier})
        with store.create(Dataset, key, {"stage": "prepare", "params": params.model_dump(mode="json")}) as out:
            prepare(base, params, Workspace(out, tmp_path, tmp_path, Progress()))
        return load(Dataset, store.dir("dataset", key))

    first = made(good_rows(), None, "a")
    assert not (first.path / "test_rows.json").exists()
    more = [row(f"would you start the {d} for me now", {"intent": "On", "name": d}) for d in DEVICES]
    grown = [*(row(f"{n} {m} {d}", {"intent": "On", "name": d}) for d in DEVICES for n in "xyzvw" for m in "abc")]
    rows = [*more, *good_rows()[::-1], *grown]
    second = made(rows, EarlierData(path=str(first.path), digest=first.digest), "b")

    def asks(data: Dataset, split: str) -> set[str]:
        return {one["messages"][0]["content"] for one in lines(data.path / f"{split}.jsonl")}

    assert asks(first, "test") <= asks(second, "test")
    assert not asks(first, "test") & (asks(second, "train") | asks(second, "val"))
    assert not asks(first, "train") & asks(second, "test")
    marks = json.loads((second.path / "test_rows.json").read_text())
    new = {
        one["id"]
        for one in lines(second.path / "test.jsonl")
        if one["messages"][0]["content"] not in asks(first, "test")
    }
    assert set(marks["new"]) == new and marks["since"] == first.digest and new
    assert (second.summary["test_rows_fixed"], second.summary["test_rows_new"]) == (len(asks(first, "test")), len(new))


def test_the_splits_of_dvc_are_drawn_again_where_the_champion_was_tested_on_other_rows(
    tmp_path: Path, base: Checkpoint
) -> None:
    """What DVC drew as training rows, the champion was tested on."""
    _, params = _project(tmp_path)
    drawn = {name: lines(tmp_path / "data/splits" / f"{name}.jsonl") for name in ("train", "val", "test")}
    store = Store(tmp_path / "store")
    with store.create(Dataset, "a", {}) as out:
        tested = [one for one in drawn["train"] if one["template"] == drawn["train"][0]["template"]]
        for name, rows in (("train", drawn["test"]), ("val", []), ("test", tested)):
            write(out / f"{name}.jsonl", rows)
    champions = load(Dataset, store.dir("dataset", "a"))
    earlier = EarlierData(path=str(champions.path), digest=champions.digest)
    (tmp_path / "out").mkdir()
    space = Workspace(tmp_path / "out", tmp_path, tmp_path, Progress())
    prepare(base, params.model_copy(update={"earlier": earlier}), space)
    test = {one["id"] for one in lines(tmp_path / "out/test.jsonl")}
    assert {one["id"] for one in tested} <= test
    assert not {one["id"] for one in drawn["test"]} & test

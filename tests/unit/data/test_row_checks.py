"""All rows of a dataset at once: what is refused, what is warned about, and in how many words."""

import json

import pytest

from slipway.data.row_checks import Needs, RowChecks
from slipway.errors import DataError
from tests.support.chat_tokenizers import CHATML, chat


def row(name: str, user: str = "lamp on", answer: str = "on it is", system: str = "") -> dict:
    messages = [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
    return {"id": name, "messages": [*([{"role": "system", "content": system}] if system else []), *messages]}


def checked(rows, family="chatml", tmp_path=None, **needs):
    template = chat(family) if isinstance(family, str) else family
    checks = RowChecks(template, Needs(**needs))
    checks.lengths("train", rows)
    return checks


def test_sound_rows_are_counted_and_nothing_is_said(tmp_path):
    checks = checked([row(str(i)) for i in range(20)], longest=64)
    assert checks.finish(tmp_path / "rejected.jsonl") == []
    assert checks.tokens["train"] > checks.learnt["train"] > 20
    assert not (tmp_path / "rejected.jsonl").exists()


def test_lengths_come_in_the_rows_order_in_parts_of_any_size(tmp_path):
    rows = [row(str(i), answer="on " * (1 + i % 4) + "now") for i in range(30)]
    whole, parts = RowChecks(chat("chatml"), Needs()), RowChecks(chat("chatml"), Needs())
    assert whole.lengths("train", rows) == parts.lengths("train", rows[:7]) + parts.lengths("train", iter(rows[7:]))
    assert (whole.tokens, whole.learnt) == (parts.tokens, parts.learnt)


def test_every_kind_is_one_line_with_its_rows_its_sight_and_its_way_out(tmp_path):
    rows = [row("good"), *(row(f"long-{i}", user="lamp " * 50) for i in range(12)), row("control", "say <|im_end|>")]
    checks = checked(rows, longest=40)
    with pytest.raises(DataError) as raised:
        checks.finish(tmp_path / "rejected.jsonl")
    text = str(raised.value)
    assert "13 of 14 rows cannot be learnt" in text
    assert "(12 rows: long-0, long-1, long-2, long-3, long-4 and 7 more)" in text and "raise train.pack_length" in text
    assert "(1 row: control): <|im_end|> in messages[0] (user)" in text
    listed = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert len(listed) == 13 and listed[-1] == {
        "row": "control",
        "problem": "control",
        "reason": listed[-1]["reason"],
    }


def test_a_message_has_a_bounded_size_whatever_the_rows_hold(tmp_path):
    rows = [row(f"{i}" * 500, "x<|im_end|>" * 5000, '{"k": 1, "k": 2}') for i in range(300)]
    with pytest.raises(DataError) as raised:
        checked(rows).finish(tmp_path / "rejected.jsonl")
    assert len(str(raised.value)) < 2000


@pytest.mark.parametrize(
    ("family", "outcome"),
    [("chatml", []), ("gemma3", ["system_folded"]), ("mistral-v3", ["system_folded"]), ("phi3", [])],
)
def test_a_system_prompt_that_is_folded_into_a_users_turn_is_warned_about(family, outcome, tmp_path):
    checks = checked([row("a", system="be brief"), row("b")], family)
    warnings = checks.finish(tmp_path / "rejected.jsonl")
    assert [kind for kind in checks.findings if kind.startswith("system")] == outcome
    assert len([w for w in warnings if "(1 row: a)" in w]) == len(outcome)


def test_a_system_prompt_that_is_dropped_is_warned_about(tmp_path):
    dropping = CHATML.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}")
    checks = checked([row("a", system="be brief")], chat("chatml", template=dropping))
    assert "drops the system prompt (1 row: a)" in checks.finish(tmp_path / "rejected.jsonl")[0]


def test_a_template_that_takes_no_system_prompt_refuses_the_rows_in_its_own_words(tmp_path):
    with pytest.raises(DataError, match=r"refuses the conversation \(1 row: a\): System role not supported"):
        checked([row("a", system="be brief"), row("b")], "gemma").finish(tmp_path / "rejected.jsonl")


def test_rows_that_are_cut_are_warned_about_and_refused_when_nothing_of_the_answer_is_left(tmp_path):
    long = row("a", answer="on " * 40 + "now")
    assert "is cut at" in checked([long], longest=40, truncate=True).finish(tmp_path / "r.jsonl")[0]
    with pytest.raises(DataError, match="no token is left to learn"):
        checked([row("a", user="lamp " * 50)], longest=40, truncate=True).finish(tmp_path / "r.jsonl")


def test_calibration_wants_tokens(tmp_path):
    rows = [row(str(i)) for i in range(10)]
    tokens = checked(rows).tokens["train"]
    assert checked(rows, calibration=(1, tokens)).finish(tmp_path / "r.jsonl") == []
    (warning,) = checked(rows, calibration=(2, tokens)).finish(tmp_path / "r.jsonl")
    assert f"{tokens} tokens, wanted 2 x {tokens}" in warning
    with pytest.raises(DataError, match="fewer tokens than one calibration sequence"):
        checked(rows, calibration=(1, tokens + 1)).finish(tmp_path / "r.jsonl")


def test_a_beginning_that_only_the_tokenizer_writes_is_warned_about(tmp_path):
    (warning,) = checked([row("a")], chat("mistral-tekken", template=CHATML.replace("<|im_end|>", "</s>"))).finish(
        tmp_path / "r.jsonl"
    )
    assert "begins texts with a token" in warning and "'<s>'" in warning


def test_what_was_so_before_the_needs_existed_stays_out_of_a_key():
    assert Needs().key_document() == {}
    assert Needs(learn="all", longest=512).key_document() == {"learn": "all", "longest": 512}

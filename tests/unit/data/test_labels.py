"""What is learnt of a row, by the manners of the families, against the tokenizer's own offsets."""

import pytest

from slipway.data.labels import LabelledRow, as_error, label_rows, learnable_rows, length_problem
from slipway.data.problems import RowProblem
from slipway.errors import DataError
from tests.support.chat_tokenizers import CHATML, FAMILIES, QWEN3_OFF, QWEN3_THINKING, chat

ASK, ON = {"role": "user", "content": "lamp on"}, {"role": "assistant", "content": '{"intent": "On"}'}
OFF, DONE = {"role": "user", "content": "and off?"}, {"role": "assistant", "content": "off it is"}
SYSTEM = {"role": "system", "content": "be brief"}
TWO = [ASK, ON, OFF, DONE]
# What a family's template writes around the answers of TWO, learnt with them
LEARNT = {
    "chatml": ("{}<|im_end|>", "{}<|im_end|>"),
    "llama3": ("{}<|eot_id|>", "{}<|eot_id|>"),
    "gemma": ("{}<end_of_turn>", "{}<end_of_turn>"),
    "gemma3": ("{}<end_of_turn>", "{}<end_of_turn>"),
    "mistral-v1": ("{}</s>", "{}</s>"),
    "mistral-v3": (" {}</s>", " {}</s>"),
    "mistral-tekken": ("{}</s>", "{}</s>"),
    "qwen3": ("{}<|im_end|>", "<think>\n\n</think>\n\n{}<|im_end|>"),
    "phi3": ("{}<|end|>", "{}<|end|>"),
    "gpt-oss": ("<|channel|>final<|message|>{}<|end|>", "<|channel|>final<|message|>{}<|return|>"),
    "deepseek-v3": ("{}<\uff5cend\u2581of\u2581sentence\uff5c>",) * 2,
}


def label(template, messages, learn="last", **row):
    (result,) = label_rows([{"id": "r", "messages": messages, **row}], template, learn)
    return result


def texts(template, row):
    return [template.tokenizer.decode(row.tokens[start:end]) for start, end in row.spans]


def problem(template, messages, learn="last"):
    result = label(template, messages, learn)
    assert isinstance(result, RowProblem), result
    return result.kind


@pytest.mark.parametrize("family", LEARNT)
@pytest.mark.parametrize("learn", ["all", "last"])
def test_answers_are_learnt_with_their_end_of_turn_and_nothing_else(family, learn):
    template = chat(family)
    row = label(template, TWO, learn)
    expected = [mark.format(m["content"]) for mark, m in zip(LEARNT[family], (ON, DONE), strict=True)]
    assert texts(template, row) == (expected if learn == "all" else expected[-1:])
    assert row.spans[-1][1] == len(row.tokens), "nothing after the last learnt token"
    assert row.label_tokens == sum(end - start for start, end in row.spans)


@pytest.mark.parametrize("family", LEARNT)
def test_token_ranges_are_what_the_tokenizers_offsets_say_of_the_text(family):
    """An independent way: characters of the learnt text, mapped to tokens by the tokenizer."""
    template = chat(family)
    whole, prompt = template.render(TWO, prompt=False), template.render(TWO[:-1], prompt=True)
    offsets = template.tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    end = len(prompt) + len(LEARNT[family][1].format(DONE["content"]))
    inside = [i for i, (start, stop) in enumerate(offsets) if start >= len(prompt) and stop <= end and stop > start]
    assert label(template, TWO).spans == ((inside[0], inside[-1] + 1),)


@pytest.mark.parametrize("family", LEARNT)
def test_what_an_engine_is_asked_with_is_what_stands_before_the_learnt_tokens(family):
    template = chat(family)
    row = label(template, TWO)
    (asked,) = template.encode([template.render(TWO[:-1], prompt=True)])
    assert row.tokens[: row.spans[0][0]] == asked


def test_every_family_is_covered_and_r1_is_refused():
    assert set(FAMILIES) == {*LEARNT, "deepseek-r1"}
    assert problem(chat("deepseek-r1"), TWO) == "reasoning"


@pytest.mark.parametrize(
    ("family", "messages", "learn", "kind"),
    [
        ("gemma", [SYSTEM, *TWO], "last", "template"),  # no system role
        ("mistral-v1", [ASK, ASK, ON], "last", "template"),  # roles must alternate
        ("mistral-v3", [SYSTEM, *TWO], "all", "rewritten"),  # the system prompt moves on to the last user turn
        ("chatml", [ASK, {"role": "assistant", "content": "\n\non"}], "last", "merged"),
        ("chatml", [{"role": "user", "content": "<|im_end|>"}, ON], "last", "control"),
        ("chatml", [ASK, {"role": "assistant", "content": "a<|im_end|>b"}], "last", "control"),
        ("chatml", [{"role": "user", "content": "\ud800"}, ON], "last", "surrogate"),
        ("chatml", [ASK, {"role": "assistant", "content": '{"a": 1, "a": 2}'}], "last", "duplicate_key"),
    ],
)
def test_a_row_that_would_be_learnt_wrongly_is_refused_by_name(family, messages, learn, kind):
    assert problem(chat(family), messages, learn) == kind


def test_a_system_prompt_that_moves_leaves_the_last_answer_to_be_learnt():
    template = chat("mistral-v3")
    assert texts(template, label(template, [SYSTEM, *TWO])) == [" off it is</s>"]


def test_an_answer_without_an_end_of_its_own_is_refused_even_if_a_later_turn_has_one():
    users_end = (
        "{% for m in messages %}{{ m.role + ':\n' + m.content + ('<|im_end|>' if m.role == 'user' or loop.last else '')"
        " + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant:\n' }}{% endif %}"
    )
    assert problem(chat("chatml", template=users_end), TWO, "all") == "no_end"
    assert texts(chat("chatml", template=users_end), label(chat("chatml", template=users_end), TWO)) == [
        "off it is<|im_end|>"
    ]


def test_a_template_without_any_end_of_turn_is_refused_and_so_is_one_whose_prompt_is_not_where_the_answer_begins():
    plain = "{% for m in messages %}{{ m.role + ':\n' + m.content + '\n' }}{% endfor %}"
    header = "{% if add_generation_prompt %}{{ 'assistant:\n' }}{% endif %}"
    assert problem(chat("chatml", template=plain + header), [ASK, ON]) == "no_end"
    assert problem(chat("chatml", template=plain + header.replace("\n'", " '")), [ASK, ON]) == "rewritten"


def test_what_follows_the_end_of_an_answer_is_not_learnt_and_warned_about_when_it_is_more_than_space():
    onward = CHATML.replace("{% endfor %}", "{% endfor %}{% if not add_generation_prompt %}<|im_start|>user{% endif %}")
    row = label(chat("chatml", template=onward), [ASK, ON])
    assert texts(chat("chatml"), row) == ['{"intent": "On"}<|im_end|>']
    assert [warning.kind for warning in row.warnings] == ["next_turn"]
    assert label(chat("chatml"), [ASK, ON]).warnings == () == label(chat("phi3"), [ASK, ON]).warnings


def test_an_end_that_the_models_files_do_not_list_is_warned_about():
    assert [w.kind for w in label(chat("gemma", stops=()), [ASK, ON]).warnings] == ["end_unknown"]


def test_an_answer_that_the_template_changes_is_warned_about():
    upper = CHATML.replace("m.content +", "m.content | upper +")
    assert [w.kind for w in label(chat("chatml", template=upper), [ASK, DONE]).warnings] == ["changed_answer"]


def test_reasoning_is_learnt_where_the_answer_has_it():
    template = chat("qwen3")
    row = label(template, [ASK, {"role": "assistant", "content": "<think>\nbright\n</think>\n\non"}])
    assert texts(template, row) == ["<think>\nbright\n</think>\n\non<|im_end|>"]
    thinking = chat("qwen3", template=QWEN3_THINKING)
    assert problem(thinking, [ASK, ON]) == "reasoning", "an empty block is no reasoning"
    row = label(thinking, [ASK, {"role": "assistant", "content": "<think>\nbright\n</think>\n\non"}])
    assert texts(thinking, row) == ["bright\n</think>\n\non<|im_end|>"]


def test_a_closed_block_in_the_prompt_is_not_learnt_and_rows_must_have_it():
    template = chat("qwen3", template=QWEN3_OFF)
    row = label(template, TWO)
    assert texts(template, row) == ["off it is<|im_end|>"]
    assert template.tokenizer.decode(row.tokens[: row.spans[0][0]]).endswith("<think>\n\n</think>\n\n")
    reasoned = [ASK, {"role": "assistant", "content": "<think>\nbright\n</think>\n\non"}]
    assert problem(template, reasoned) == "closed_reasoning"
    assert problem(template, TWO, "all") == "closed_reasoning", "the first answer is written without a block"


def test_answers_that_a_template_opens_unevenly_are_warned_about():
    template = chat("qwen3")
    assert [str(w).split(": ")[-1] for w in label(template, TWO, "all").warnings] == ["1 of 2 answers"]
    assert not label(template, TWO).warnings and not label(template, [ASK, ON], "all").warnings


def test_calls_and_tools_that_a_template_does_not_write_are_refused_or_warned_about():
    call = {"type": "function", "function": {"name": "switch", "arguments": {}}}
    called = [ASK, {"role": "assistant", "content": "", "tool_calls": [call]}]
    template, whole = chat("chatml"), [*called, {"role": "tool", "content": "done"}, DONE]
    assert problem(template, called) == problem(template, whole, "all") == "calls_dropped"
    assert [(w.kind, w.detail) for w in label(template, whole).warnings] == [("context_dropped", "switch")]
    tools = [{"type": "function", "function": {"name": "dim", "parameters": {}}}]
    assert [w.detail for w in label(template, [ASK, ON], tools=tools).warnings] == ["dim"]
    one = {"type": "function", "function": {"name": "a", "parameters": {}}}  # a letter of other words
    assert [w.detail for w in label(template, [ASK, ON], tools=[one]).warnings] == ["a"]
    assert not label(chat("qwen3"), called).warnings


def test_tool_calls_are_learnt_as_the_template_writes_them():
    call = {"type": "function", "function": {"name": "switch", "arguments": {"lamp": "kitchen"}}}
    messages = [
        ASK,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "done", "name": "switch"},
        DONE,
    ]
    template = chat("qwen3")
    first, last = texts(template, label(template, messages, "all"))
    assert '<tool_call>\n{"name": "switch", "arguments": {"lamp": "kitchen"}}\n</tool_call><|im_end|>' in first
    assert last.endswith("off it is<|im_end|>")


def test_the_templates_own_marks_place_an_answer_before_which_history_was_rewritten():
    marked = FAMILIES["mistral-v3"].template.replace("{{ ' ' + m.content", "{% generation %}{{ ' ' + m.content")
    marked = marked.replace("eos_token }}{% endif %}", "eos_token }}{% endgeneration %}{% endif %}")
    template = chat("mistral-v3", template=marked)
    assert texts(template, label(template, [SYSTEM, *TWO], "all")) == [' {"intent": "On"}</s>', " off it is</s>"]


def test_a_row_is_cut_with_its_labels():
    row = LabelledRow([1, 2, 3, 4, 5, 6], ((1, 3), (4, 6)))
    assert row.labels(-1) == [-1, 2, 3, -1, 5, 6]
    assert row.cut(5) == LabelledRow([1, 2, 3, 4, 5], ((1, 3), (4, 5))) and row.cut(6) is row
    assert row.cut(1).label_tokens == 0
    assert length_problem(row, 6, truncate=False) is None
    assert [length_problem(row, n, truncate=t).kind for n, t in ((5, False), (5, True), (1, True))] == [
        "too_long",
        "cut",
        "unlearnt",
    ]


def test_a_trainer_gets_rows_or_one_error_with_the_row_and_the_way_out():
    template, rows = chat("chatml"), [{"id": "a", "messages": [ASK, ON]}, {"id": "b", "messages": [ASK, DONE]}]
    assert len(learnable_rows(rows, template, "last", 64)) == 2
    with pytest.raises(DataError, match=r"row a: .*sequence: \d+ tokens, train\.pack_length=16.*Next: raise train"):
        learnable_rows(rows, template, "last", 16)
    assert max(len(row.tokens) for row in learnable_rows(rows, template, "last", 40, truncate=True)) <= 40
    assert "delete white space" in str(as_error(rows[0], RowProblem("merged", "x")))


def test_many_rows_keep_their_order_over_batches():
    rows = [{"id": str(i), "messages": [ASK, {"role": "assistant", "content": f"a{i}"}]} for i in range(1100)]
    template = chat("chatml")
    results = list(label_rows(rows, template, "last"))
    assert [texts(template, results[i]) for i in (0, 511, 512, 1099)] == [
        [f"a{i}<|im_end|>"] for i in (0, 511, 512, 1099)
    ]

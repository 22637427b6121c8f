"""A model's template and tokenizer: rendering, its errors, stop tokens, a beginning that it forgets."""

import pytest

from slipway.data.problems import RowProblem
from tests.support.chat_tokenizers import CHATML, chat

USER = {"role": "user", "content": "lamp on"}
ANSWER = {"role": "assistant", "content": "on"}


@pytest.mark.parametrize("prompt", [True, False])
def test_messages_become_text_with_or_without_the_next_turns_header(prompt):
    text = chat("chatml").render([USER], prompt=prompt)
    assert text == "<|im_start|>user\nlamp on<|im_end|>\n" + "<|im_start|>assistant\n" * prompt


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('no system role') }}", "no system role"),
        ("{{ 1 + messages[0].content }}", "unsupported operand"),
        ("{{ messages[7].content.upper() }}", "has no element 7"),
        ("{{ raise_exception('x' * 9999) }}", "x" * 160),
    ],
)
def test_whatever_a_template_raises_is_a_problem_of_the_row_in_a_bounded_message(template, reason):
    with pytest.raises(RowProblem, match=reason) as raised:
        chat("chatml", template=template).render([USER], prompt=False)
    assert raised.value.kind == "template" and len(str(raised.value)) < 300


def test_stop_tokens_are_the_tokenizers_and_the_models_others_are_known_by_name():
    gemma = chat("gemma")
    assert set(gemma.stops.values()) == {"<eos>", "<end_of_turn>"} and not gemma.ends
    assert set(chat("gemma", stops=()).ends.values()) == {"<end_of_turn>"}
    assert "<|im_start|>" in chat("chatml").controls
    assert chat("chatml").openings == {"<"} and chat("mistral-v3").openings == {"<", "["}


def test_a_first_token_that_only_the_tokenizer_writes_is_noticed():
    assert not chat("llama3").writes_no_bos()
    assert chat("llama3", template=CHATML).writes_no_bos()
    assert not chat("chatml").writes_no_bos()


def test_the_templates_own_marks_are_token_ranges():
    marked = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}"
    marked += "{{ m.content }}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
    template, messages = chat("chatml", template=marked), [USER, ANSWER, USER, ANSWER]
    (ids,) = template.encode([template.render(messages, prompt=False)])
    runs = template.generation_runs(messages)
    assert [template.tokenizer.decode(ids[start:end]) for start, end in runs] == ["on<|im_end|>"] * 2
    assert chat("chatml").generation_runs(messages) is None

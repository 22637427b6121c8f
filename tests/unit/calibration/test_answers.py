"""Reference answers as tokens: only the answer and its end, in micro-batches that change nothing."""

import pytest

from slipway.calibration.answers import PAD_TO, Answer, batches, depends_on_length, read_answers
from slipway.errors import DataError
from tests.support.pico import write_tokenizer


@pytest.fixture
def model_dir(tmp_path):
    write_tokenizer(tmp_path)
    return tmp_path


def row(answer="on", user="light", name="r1"):
    return {"id": name, "messages": [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]}


def test_the_answer_and_its_end_are_scored_and_nothing_after(model_dir):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    (answer,) = read_answers([row()], model_dir)
    assert tokenizer.decode(answer.tokens[answer.start :]) == "on<|im_end|>"
    assert tokenizer.decode(answer.tokens[: answer.start]).endswith("<|im_start|>assistant\n")


def test_a_row_of_which_nothing_can_be_learnt_is_refused_with_the_reason(model_dir):
    (model_dir / "chat_template.jinja").write_text("{{ raise_exception('roles must alternate' * 1000) }}")
    with pytest.raises(DataError, match="row r1: the chat template refuses the conversation") as error:
        read_answers([row()], model_dir)
    assert len(str(error.value)) < 1000


def of(*lengths):
    return [Answer(f"r{i}", tuple(range(1, n + 1)), 1) for i, n in enumerate(lengths)]


def test_micro_batches_hold_every_row_once_padded_on_the_right():
    made = batches(of(3, 17, 33, 16), 64, by_length=False)
    assert [[one.id for one in batch.answers] for batch in made] == [["r2"], ["r1", "r3"], ["r0"]]
    assert [tuple(batch.tokens.shape) for batch in made] == [(1, 33), (2, 32), (1, PAD_TO)]
    assert made[1].tokens[1].tolist() == [*range(1, 17), *[16] * 16]


def test_a_row_above_the_limit_is_alone():
    assert [len(batch.answers) for batch in batches(of(50, 50, 10, 10), 40, by_length=False)] == [1, 1, 2]


def test_by_length_no_row_is_padded():
    made = batches(of(5, 6, 5, 6, 5), 12, by_length=True)
    assert [tuple(batch.tokens.shape) for batch in made] == [(2, 6), (2, 5), (1, 5)]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"rope_parameters": {"rope_type": "longrope"}}, True),
        ({"text_config": {"rope_scaling": {"type": "dynamic"}}}, True),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}, "model_type": "dynamic"}, False),
    ],
)
def test_which_rotary_tables_depend_on_the_length(config, expected):
    assert depends_on_length(config) is expected

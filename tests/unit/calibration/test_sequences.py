"""Calibration tokens: the same for the same file and seed, whole sequences, and bad rows named by file and line."""

import json

import pytest
import torch
from transformers import AutoTokenizer

from slipway.calibration.sequences import calibration_tokens
from slipway.config.quantize import CalibrationConfig
from slipway.errors import CheckpointError, DataError
from tests.support.pico import pico_model
from tests.support.streaming import calibration_rows


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return pico_model(tmp_path_factory.mktemp("model"), layers=1)


@pytest.fixture(scope="module")
def tokenizer(model):
    return AutoTokenizer.from_pretrained(model)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return calibration_rows(tmp_path_factory.mktemp("rows") / "train.jsonl")


def params(**values):
    return CalibrationConfig(**{"samples": 4, "length": 16, **values})


def drawn(tmp_path, model, lines, **values):
    (tmp_path / "rows.jsonl").write_bytes(lines if isinstance(lines, bytes) else lines.encode())
    return calibration_tokens(tmp_path / "rows.jsonl", model, params(**values))


def test_the_same_file_and_seed_give_the_same_tokens_and_others_do_not(model, rows):
    one, two, other = (calibration_tokens(rows, model, params(seed=seed)) for seed in (1, 1, 2))
    assert one.shape == (4, 16) and one.dtype == torch.int64
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_sequences_are_rows_joined_by_the_end_of_text(tmp_path, model, tokenizer):
    sequences = drawn(tmp_path, model, '{"text": "abcdefg"}\n{"text": "hijklmn"}\n', samples=1)
    assert sequences.shape == (1, 16) and (sequences == tokenizer.eos_token_id).sum() == 2
    assert set(tokenizer.decode(sequences[0]).replace("<|im_end|>", " ").split()) == {"abcdefg", "hijklmn"}


def test_fewer_sequences_when_the_file_is_shorter(tmp_path, model):
    assert drawn(tmp_path, model, '{"text": "%s"}\n' % ("ab" * 20), samples=100).shape == (2, 16)


def test_chats_are_rendered_as_the_model_reads_them(tmp_path, model, tokenizer):
    messages = [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "hi"}]
    sequences = drawn(tmp_path, model, json.dumps({"messages": messages, "label": "x"}) + "\n", samples=1, length=32)
    wanted = tokenizer(tokenizer.apply_chat_template(messages, tokenize=False), add_special_tokens=False)["input_ids"]
    assert sequences[0].tolist() == wanted[:32] and "<|im_start|>user" in tokenizer.decode(sequences[0])


def test_separators_inside_of_strings_end_no_line(tmp_path, model):
    text = "one\u2028two\x0bthree\u0085four " * 3
    assert drawn(tmp_path, model, json.dumps({"text": text}, ensure_ascii=False) + "\r\n\n", samples=1).shape == (1, 16)


GOOD = b'{"text": "abc"}\n'


@pytest.mark.parametrize(
    "line",
    [
        b"{not json}",
        b'["a"]',
        b"5",
        b'{"label": "x"}',
        b'{"text": 5}',
        b'{"messages": 5}',
        b'{"messages": [{"content": "x"}]}',
        b'{"text": "\xff"}',
        b"null",
    ],
)
def test_a_row_that_is_none_is_named_by_file_and_line(tmp_path, model, line):
    with pytest.raises(DataError, match=r"rows\.jsonl:3: .*expected .*mend the line"):
        drawn(tmp_path, model, GOOD + b"\n" + line + b"\n" + GOOD)


def test_too_few_tokens_and_a_missing_file_are_named(tmp_path, model):
    with pytest.raises(
        DataError, match=r"calibration file .*rows\.jsonl: 4 tokens; expected 16 or more.*calibration\.length"
    ):
        drawn(tmp_path, model, GOOD)
    with pytest.raises(DataError, match=r"calibration file .*rows\.jsonl: 0 tokens"):
        drawn(tmp_path, model, b"")
    with pytest.raises(DataError, match=r"calibration file: .*nowhere\.jsonl does not exist"):
        calibration_tokens(tmp_path / "nowhere.jsonl", model, params())


def test_a_model_without_a_tokenizer_is_named(tmp_path, rows):
    model = pico_model(tmp_path / "model", layers=1)
    (model / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=rf"tokenizer of {model}: .*expected a tokenizer"):
        calibration_tokens(rows, model, params())

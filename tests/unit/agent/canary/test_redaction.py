from __future__ import annotations

import pytest

from slipway.agent.canary.redaction import is_card, is_iban, redact, redact_tree


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("mail jo.doe+x@mail.example.org now", "mail <mail> now"),
        ("call +49 30 1234567 or 0171/2345678.", "call <phone> or <phone>."),
        ("card 4111 1111 1111 1111, thanks", "card <card>, thanks"),
        ("IBAN DE89 3704 0044 0532 0130 00 please", "IBAN <iban> please"),
        ("use sk-abcdefgh12345678 here", "use <key> here"),
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer <key>"),
        ("my password is hunter22!", "my password is <key>"),
        ('{"api_key": "abcd1234"}', '{"api_key": "<key>"}'),
        ("git clone https://me:pass@host.example/x", "git clone https://<key>@host.example/x"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "<key>"),
    ],
)
def test_what_has_the_form_of_a_secret_or_of_personal_data_goes(text: str, redacted: str) -> None:
    assert redact(text)[0] == redacted
    assert redact(text)[1] >= 1


@pytest.mark.parametrize(
    "text",
    [
        "turn on lamp 12 at 10:30 on 2026-11-28",
        "pi is 3.14159265358979",
        "order 4111111111111112 of 2024",  # no check digit of a card
        "the token count is ok",
        "0.5 of 1000000 rows, 12 34",
        "a @ b, x@y",
    ],
)
def test_other_numbers_and_words_stay(text: str) -> None:
    assert redact(text) == (text, 0)


def test_check_digits() -> None:
    assert is_card("5500 0000 0000 0004") and not is_card("5500 0000 0000 0005") and not is_card("0000000000000000")
    assert is_iban("GB82 WEST 1234 5698 7654 32") and not is_iban("GB83 WEST 1234 5698 7654 32")


def test_a_document_keeps_its_shape() -> None:
    document = {"messages": [{"role": "user", "content": ["a@b.example", 3, None]}], "stream": True}
    redacted = {"messages": [{"role": "user", "content": ["<mail>", 3, None]}], "stream": True}
    assert redact_tree(document) == (redacted, 1)


@pytest.mark.parametrize("piece", ["a@", "1 ", "password", "AB12 ", "-", "x.", "+49 1", "a=b "])
def test_long_texts_of_one_kind_end(piece: str) -> None:
    """A pattern that tries every split of them would not."""
    text = piece * 10000
    assert len(redact(text)[0]) <= len(text) + 8 * redact(text)[1]

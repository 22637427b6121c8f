"""What is taken out of a prompt before it is stored: texts that have the form of a secret or of personal data.

Best effort, and said to be: keys and tokens by their forms, passwords after their names, mail addresses, telephone
numbers (with `+` or in groups), payment cards (Luhn's sum, ISO/IEC 7812-1) and bank accounts (IBAN's remainder, ISO
13616). Names, addresses, health and whatever else a person writes stay. Who must not store that turns capture off.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_SECRETS = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"(?<=://)[^/?#\s'\"<>@]+:[^/?#\s'\"<>@]+(?=@)"),
    re.compile(r"(?<=\bbearer )\S{8,}", re.IGNORECASE),
    re.compile(
        r"(?<![A-Za-z0-9_])(?:hf_[A-Za-z0-9]{8,}|sk-[A-Za-z0-9_-]{8,}|gh[pousr]_[A-Za-z0-9]{8,}"
        r"|github_pat_[A-Za-z0-9_]{8,}|glpat-[A-Za-z0-9_-]{8,}|nvapi-[A-Za-z0-9_-]{8,}|xox[abpr]-[A-Za-z0-9-]{8,}"
        r"|AKIA[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{30,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,})"
    ),
)
_ASSIGNED = re.compile(
    r"(?P<head>\b[\w.-]{0,40}(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|private[_-]?key|access[_-]?key)"
    r"\\?[\"']?\s{0,3}(?:[=:]|\bis\b)\s{0,3}\\?[\"']?)(?!<)[^\s\"',;]{4,}",
    re.IGNORECASE,
)
_MAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
_CARD = re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d.])")
_PHONE = re.compile(r"(?<![\w.+])(?:\+\d{1,3}|\(?0\d{1,5}\)?)[ ./-]?(?:\(?\d{1,5}\)?[ ./-]?){1,5}\d{2,}(?![\w])")
_LEAST_PHONE = 7  # digits


def redact(text: str) -> tuple[str, int]:
    """`text` with what was recognised replaced by `<key>`, `<mail>`, `<iban>`, `<card>` or `<phone>`, and how many."""
    count = 0

    def put(mark: str, holds: Callable[[str], bool] = lambda _: True) -> Callable[[re.Match[str]], str]:
        def replace(match: re.Match[str]) -> str:
            nonlocal count
            if not holds(match[0]):
                return match[0]
            count += 1
            return match.groupdict().get("head", "") + mark

        return replace

    for pattern in _SECRETS:
        text = pattern.sub(put("<key>"), text)
    text = _ASSIGNED.sub(put("<key>"), text)
    text = _MAIL.sub(put("<mail>"), text)
    text = _IBAN.sub(put("<iban>", is_iban), text)
    text = _CARD.sub(put("<card>", is_card), text)
    text = _PHONE.sub(put("<phone>", lambda number: sum(c.isdigit() for c in number) >= _LEAST_PHONE), text)
    return text, count


def redact_tree(document: Any) -> tuple[Any, int]:
    """A JSON document with every text in it redacted, and how many pieces that were. Keys stay."""
    if isinstance(document, str):
        return redact(document)
    if isinstance(document, dict):
        pairs = {key: redact_tree(value) for key, value in document.items()}
        return {key: value for key, (value, _) in pairs.items()}, sum(n for _, n in pairs.values())
    if isinstance(document, list):
        values = [redact_tree(value) for value in document]
        return [value for value, _ in values], sum(n for _, n in values)
    return document, 0


def is_card(text: str) -> bool:
    """Whether the digits of `text` have the check digit of a payment card."""
    digits = [int(c) for c in text if c.isdigit()]
    doubled = [d if i % 2 == 0 else 2 * d - 9 * (d > 4) for i, d in enumerate(reversed(digits))]
    return len(digits) >= 13 and len(set(digits)) > 1 and sum(doubled) % 10 == 0


def is_iban(text: str) -> bool:
    """Whether `text` has the remainder of a bank account's number."""
    plain = text.replace(" ", "")
    moved = plain[4:] + plain[:4]
    return 15 <= len(plain) <= 34 and int("".join(str(int(c, 36)) for c in moved)) % 97 == 1

"""Secrets out of anything that leaves the process: logs, tags, messages, errors, reports.

Two ways, used together. Values that the process knows to be secret (`register`, and environment variables whose name
says so) are replaced wherever they stand. What only looks like a secret is found by its form: credentials in a URL, the
value of a key that names a password or token (`key=value`, JSON, YAML, command-line options), HTTP authorization,
signed URLs, and the tokens of Hugging Face, OpenAI, GitHub and NVIDIA.
"""

from __future__ import annotations

import logging
import os
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, unquote, urlsplit

MASK = "***"
MIN_CHARS = 4  # a shorter registered value would be found inside ordinary words
_MIN_ENVIRONMENT_CHARS = 6

_NAME = (
    r"(?:password|passwd|passphrase|pwd|secret|token|credentials?|auth[_-]?string|api[_-]?key"
    r"|access[_-]?key(?:[_-]?id)?|private[_-]?key|secret[_-]?key|account[_-]?key)"
)
_KEY = rf"[\w.-]*{_NAME}"
_URL_USER = re.compile(r"(?<=://)[^/?#\s'\"<>]+(?=@)")
_AUTHORIZATION = re.compile(
    r"(\bBearer\s+|authorization\\?[\"']?\s*[=:]\s*\\?[\"']?(?:[A-Za-z]+\s+)?+)(?!\*\*\*)[^\s'\",;\\]+", re.IGNORECASE
)
# quoted value: to its closing quote, `\"` inside; the key may be quoted too, as in JSON
_QUOTED = re.compile(
    rf"(?P<head>(?<![\w.-]){_KEY}\\?[\"']?\s*[=:]\s*)(?P<quote>\\?[\"'])(?P<value>(?:(?!(?P=quote)).)+)(?P=quote)",
    re.IGNORECASE,
)
_ASSIGNED = re.compile(
    rf"((?<![\w.-]){_KEY}[\"']?\s*[=:]\s*)(?!null\b|None\b|\*\*\*|[\"'\\])[^\s,;&'\"]+", re.IGNORECASE
)
_OPTION = re.compile(rf"(--{_KEY}\s+)(?!-)(\"[^\"]*\"|'[^']*'|\S+)", re.IGNORECASE)
_SIGNED = re.compile(
    r"([?&](?:X-Amz-(?:Signature|Credential|Security-Token)|X-Goog-(?:Signature|Credential)|AWSAccessKeyId|AccessKeyId"
    r"|Signature|sig)=)[^&\s'\"<>]+",
    re.IGNORECASE,
)
_TOKENS = re.compile(
    r"(?<![A-Za-z0-9_])(?:hf_[A-Za-z0-9]{8,}|sk-[A-Za-z0-9_-]{8,}|gh[pousr]_[A-Za-z0-9]{8,}|github_pat_[A-Za-z0-9_]{8,}"
    r"|nvapi-[A-Za-z0-9_-]{8,}|xox[abpr]-[A-Za-z0-9-]{8,}|AKIA[0-9A-Z]{16})"
)
_ENVIRONMENT = re.compile(rf"(?!(?:OLD)?PWD$).*{_NAME}", re.IGNORECASE)  # PWD is the working directory

_registered: set[str] = set()


def register(*values: str) -> None:
    """Remember values as secrets of this process; `mask` replaces them from now on, percent-encoded too.

    A value shorter than `MIN_CHARS` characters is not remembered: it would be found inside ordinary words.
    """
    for value in values:
        _registered.update(form for form in (value, quote(value, safe=""), unquote(value)) if len(form) >= MIN_CHARS)


def register_url(url: str) -> None:
    """Remember the credentials of a URL: its password, or its user where there is none (a token stands there)."""
    user, _, password = urlsplit(url).netloc.rpartition("@")[0].partition(":")
    register(*(part for part in (password or user,) if part))


def has_credentials(url: str) -> bool:
    """Whether `mask` would hide a part of this URL: a user, a password, or a key that names a secret."""
    return mask_forms(url) != url


def mask(text: str) -> str:
    """`text` with every known secret, and everything that has the form of one, replaced by `***`."""
    for value in sorted(_known(), key=len, reverse=True):
        text = text.replace(value, MASK)
    return mask_forms(text)


def mask_forms(text: str) -> str:
    """`text` with what has the form of a secret replaced by `***`; values known to the process are not looked for."""
    text = _URL_USER.sub(MASK, text)
    text = _QUOTED.sub(rf"\g<head>\g<quote>{MASK}\g<quote>", text)
    text = _AUTHORIZATION.sub(rf"\1{MASK}", text)
    text = _OPTION.sub(rf"\1{MASK}", _ASSIGNED.sub(rf"\1{MASK}", text))
    return _TOKENS.sub(MASK, _SIGNED.sub(rf"\1{MASK}", text))


def mask_tree(doc: Any) -> Any:
    """A JSON document with every text in it masked, and the text under a key that names a secret replaced whole."""
    if isinstance(doc, Mapping):
        return {k: MASK if _secret_text(str(k), v) else mask_tree(v) for k, v in doc.items()}
    if isinstance(doc, list | tuple):
        return [mask_tree(item) for item in doc]
    return mask(doc) if isinstance(doc, str) else doc


def mask_exception(error: BaseException) -> None:
    """Mask the texts of an exception in place: arguments, attributes, notes, and those of what caused it."""
    todo, done = [error], set[int]()
    while todo:
        err = todo.pop()
        if id(err) in done:
            continue
        done.add(id(err))
        err.args = tuple(mask(arg) if isinstance(arg, str) else arg for arg in err.args)
        for name, value in vars(err).items():
            if isinstance(value, str):
                setattr(err, name, mask(value))
            elif name == "__notes__":
                err.__notes__ = [mask(str(note)) for note in value]
        todo += [cause for cause in (err.__cause__, err.__context__) if cause]


@contextmanager
def masked_errors() -> Iterator[None]:
    """What is raised inside leaves with its texts masked. Also a decorator."""
    try:
        yield
    except BaseException as err:
        mask_exception(err)
        raise


def mask_logs() -> None:
    """From now on every log record of this process, whoever writes it, has its message and traceback masked."""
    stock = logging.getLogRecordFactory()
    if getattr(stock, "masks", False):
        return

    def masked_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = stock(*args, **kwargs)
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # a caller's wrong format string: logging itself reports it
            return record
        if (masked := mask(message)) != message:
            record.msg, record.args = masked, ()
        if record.exc_info and record.exc_info[0]:
            record.exc_text = mask("".join(traceback.format_exception(*record.exc_info)).rstrip("\n"))
        return record

    masked_record.masks = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(masked_record)


def _known() -> set[str]:
    environment = {
        value
        for name, value in os.environ.items()
        if len(value) >= _MIN_ENVIRONMENT_CHARS and not value.isdigit() and _ENVIRONMENT.fullmatch(name)
    }
    return _registered | environment


def _secret_text(key: str, value: Any) -> bool:
    return isinstance(value, str) and bool(value) and bool(re.fullmatch(_KEY, key, re.IGNORECASE))

"""Secrets by their form, by their value, in documents, exceptions and log records."""

from __future__ import annotations

import json
import logging

import pytest

from slipway.errors import ResourceError
from slipway.system import redact
from slipway.system.redact import has_credentials, mask, mask_exception, mask_logs, mask_tree, register, register_url


@pytest.fixture(autouse=True)
def _no_secret_stays_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_registered", set())


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://user:pa55@host:5000/x", "http://***@host:5000/x"),
        ("postgresql://mlflow:s3cr%40t@db/m and more", "postgresql://***@db/m and more"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("uri: http://127.0.0.1:5000", "uri: http://127.0.0.1:5000"),
        ("run --hub-token hf_abc train.lr=1.0e-3", "run --hub-token *** train.lr=1.0e-3"),
        ("run --password 'two words' next", "run --password *** next"),
        ("aws_secret_access_key=AKIA/x+y run", "aws_secret_access_key=*** run"),
        ("API_KEY: abc", "API_KEY: ***"),
        ('{"token": "x"}', '{"token": "***"}'),
        ('{"db": {"Password" : "a b, c"}, "n": 1}', '{"db": {"Password" : "***"}, "n": 1}'),
        (r'"{\"api_key\": \"abc\"}"', r'"{\"api_key\": \"***\"}"'),
        ("token='x y' done", "token='***' done"),
        ("Server=db;Pwd=abc;Database=m", "Server=db;Pwd=***;Database=m"),
        ("credential=abc", "credential=***"),
        ("curl -H 'Authorization: Bearer abc.def' host", "curl -H 'Authorization: Bearer ***' host"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic ***"),
        ('{"Authorization": "Basic dXNlcjpwYXNz"}', '{"Authorization": "Basic ***"}'),
        ("sent Bearer x", "sent Bearer ***"),
        (
            "https://b.s3.aws/o?X-Amz-Date=1&X-Amz-Signature=ab12&x=1",
            "https://b.s3.aws/o?X-Amz-Date=1&X-Amz-Signature=***&x=1",
        ),
        ("https://a.blob/c?sv=1&sig=a%2Bb%3D", "https://a.blob/c?sv=1&sig=***"),
        (
            "https://b/o?AWSAccessKeyId=AK&Signature=zz&Expires=1",
            "https://b/o?AWSAccessKeyId=***&Signature=***&Expires=1",
        ),
        ("login hf_AbCdEfGhIjKl ok", "login *** ok"),
        ("sk-proj-abc_DEF-123456 and ghp_0123456789abcdef", "*** and ***"),
        ("nvapi-AbC_1234-xyz", "***"),
        ("max_new_tokens: 64", "max_new_tokens: 64"),
        ("data.max_tokens=512", "data.max_tokens=512"),
        ("token: null", "token: null"),
        ("disk-sk-1 task-123456789 shelf_1234567890", "disk-sk-1 task-123456789 shelf_1234567890"),
    ],
)
def test_what_has_the_form_of_a_secret_is_masked_and_nothing_else(text: str, masked: str) -> None:
    assert mask(text) == masked
    assert mask(masked) == masked, "masking twice changes nothing"


def test_a_registered_value_is_replaced_wherever_it_stands() -> None:
    register("corr/ect horse")
    assert mask("xcorr/ect horsey, and corr%2Fect%20horse") == "x***y, and ***"


def test_the_credentials_of_a_url_are_registered_by_themselves() -> None:
    register_url("http://ann:p%40ss-word@host/x")
    assert mask("p@ss-word p%40ss-word ann host") == "*** *** ann host"
    register_url("http://onlyatoken@host")
    assert mask("onlyatoken") == "***"
    register_url("http://host:5000")
    assert mask("host:5000") == "host:5000"


def test_values_too_short_to_be_told_from_words_are_not_registered() -> None:
    register("", "on", "abc")
    assert mask("on abc") == "on abc"


def test_environment_variables_named_as_secrets_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_TOKEN", "qwertyuiop")
    monkeypatch.setenv("SOME_TOKEN_FILE", "/etc/some/file")
    monkeypatch.setenv("MAX_TOKEN", "100000")
    monkeypatch.setenv("PWD", "/home/somebody")
    text = "qwertyuiop /etc/some/file 100000 /home/somebody"
    assert mask(text) == "*** /etc/some/file 100000 /home/somebody"


def test_documents_are_masked_by_key_and_by_value() -> None:
    register("hunter22")
    doc = {"a": ["x hunter22", 3, None], "hub_token": "plain", "tokens": "many", "password": ""}
    assert mask_tree(doc) == {"a": ["x ***", 3, None], "hub_token": "***", "tokens": "many", "password": ""}


def test_an_exception_is_masked_with_its_causes() -> None:
    register("hunter22")
    try:
        try:
            raise OSError("login hunter22 refused")
        except OSError as err:
            raise ResourceError("MLflow", "http://u:hunter22@h", "an answer", "mend hunter22") from err
    except ResourceError as err:
        err.add_note("with hunter22")
        mask_exception(err)
        shown = str(err) + json.dumps(err.to_json()) + repr(err.__cause__) + repr(err.__notes__)
    assert "hunter22" not in shown
    assert "http://***@h" in shown


def test_log_records_are_masked_with_arguments_and_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    stock = logging.getLogRecordFactory()
    register("hunter22")
    try:
        mask_logs()
        mask_logs()  # once is enough
        logging.getLogger("somebody").warning("got %s and %d", "hunter22", 5)
        try:
            raise ValueError("hunter22 is wrong")
        except ValueError:
            logging.getLogger("somebody").exception("failed")
    finally:
        logging.setLogRecordFactory(stock)
    assert "got *** and 5" in caplog.text
    assert "*** is wrong" in caplog.text
    assert "hunter22" not in caplog.text


def test_a_url_says_whether_it_has_credentials() -> None:
    assert has_credentials("http://u:p@h")
    assert has_credentials("postgresql://h/db?password=x")
    assert not has_credentials("http://h:5000")
    assert not has_credentials("sqlite:////a/b.db")

from __future__ import annotations

import pytest

from slipway.system.redact import mask


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://user:pa55@host:5000/x", "http://***@host:5000/x"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("uri: http://127.0.0.1:5000", "uri: http://127.0.0.1:5000"),
        ("run --hub-token hf_abc train.lr=1.0e-3", "run --hub-token *** train.lr=1.0e-3"),
        ("aws_secret_access_key=AKIA/x+y run", "aws_secret_access_key=*** run"),
        ("API_KEY: abc", "API_KEY: ***"),
        ("max_new_tokens: 64", "max_new_tokens: 64"),
        ("data.max_tokens=512", "data.max_tokens=512"),
    ],
)
def test_mask(text: str, masked: str) -> None:
    assert mask(text) == masked

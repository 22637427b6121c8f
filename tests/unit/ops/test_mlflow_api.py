"""MLflow's registry over HTTP."""

from __future__ import annotations

import base64

import pytest

from slipway.config.tracking import TrackingConfig
from slipway.errors import ResourceError
from slipway.ops.mlflow_api import MlflowApi, mlflow_api
from slipway.system.ports import any_port
from tests.support.mlflow_registry import registry

ENGINE = "a" * 64


def test_an_alias_is_read_set_and_absent() -> None:
    with registry() as data:
        api = MlflowApi(data.url, {})
        assert api.alias_digest("home", "spark-champion") is None  # no such model
        data.versions[("home", ENGINE)] = "3"
        assert api.alias_digest("home", "spark-champion") is None  # no such alias
        assert (api.version_of("home", ENGINE), api.version_of("home", "b" * 64)) == ("3", "")
        api.set_alias("home", "spark-champion", "3")
        assert api.alias_digest("home", "spark-champion") == ENGINE


def test_a_login_in_the_address_is_sent_and_shown_nowhere() -> None:
    with registry() as data:
        uri = data.url.replace("http://", "http://ann:hush-hush@")
        api = mlflow_api(TrackingConfig.model_validate({"uri": uri}))
        assert api
        api.version_of("home", ENGINE)
        assert data.logins == [f"Basic {base64.b64encode(b'ann:hush-hush').decode()}"]
        data.status = 403
        with pytest.raises(ResourceError, match="says 403") as caught:
            api.set_alias("home", "spark-champion", "1")
    assert "hush-hush" not in str(caught.value)


def test_a_server_that_is_away_or_ill_is_one_error() -> None:
    with pytest.raises(ResourceError, match="does not answer"):
        MlflowApi(f"http://127.0.0.1:{any_port()}", {}).version_of("home", ENGINE)
    with registry() as data:
        data.status = 500
        with pytest.raises(ResourceError, match="says 500"):
            MlflowApi(data.url, {}).alias_digest("home", "x")


def test_a_database_is_no_server() -> None:
    assert mlflow_api(TrackingConfig.model_validate({"uri": "sqlite:///x.db"})) is None

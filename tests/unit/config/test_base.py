"""Types that sections share: switches, secret URLs, hosts, ports, folders and files."""

from __future__ import annotations

import json
import pickle

import pytest
import yaml
from pydantic import ValidationError

from slipway.config.base import SecretUrl, Section, check_authority, check_host
from slipway.config.data import DataConfig
from slipway.config.deploy import DeployConfig
from slipway.config.load import load_config
from slipway.config.store import StoreConfig
from slipway.config.target import DockerConfig
from slipway.config.tracking import TrackingConfig
from slipway.errors import ConfigError
from slipway.system import redact
from tests.support.world import ROOT

URL = "https://ann:c0rrect-h0rse@mlflow.example:8443/path"


@pytest.fixture(autouse=True)
def _own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_registered", set())


def test_a_secret_url_shows_its_credentials_nowhere_and_still_works():
    config = TrackingConfig(uri=URL)
    shown = [repr(config), str(config.uri), repr(config.uri), f"{config.uri}", config.model_dump_json()]
    shown += [json.dumps(config.model_dump(mode="json")), yaml.safe_dump(config.model_dump(mode="json"))]
    shown += [repr(config.model_dump()), repr({"a": config.uri})]
    assert all("c0rrect-h0rse" not in text and "ann" not in text for text in shown)
    assert json.loads(config.model_dump_json())["uri"] == "https://***@mlflow.example:8443/path"
    assert config.uri.get_secret_value() == URL
    assert config.uri.link() == "https://mlflow.example:8443/path"
    assert redact.mask("it said c0rrect-h0rse") == "it said ***"


def test_a_url_without_credentials_is_shown_whole_and_read_back():
    config = TrackingConfig(uri="http://127.0.0.1:5000")
    assert config.model_dump(mode="json")["uri"] == "http://127.0.0.1:5000"
    assert TrackingConfig.model_validate(config.model_dump(mode="json")) == config
    assert TrackingConfig.model_validate(config.model_dump()) == config
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("mlflow.example:5000", "a URL that starts with http://"),
        ("ftp://host", "a URL that starts with http://"),
        ("http://", "a URL that starts with http://"),
        ("./mlruns", "a URL that starts with http://"),
        ("", "a URL that starts with http://"),
        ("http://host:0", "a port number from 1 to 65535"),
        ("http://host:65536", "a port number from 1 to 65535"),
        ("http://host:http", "a port number from 1 to 65535"),
        ("http://ho st:80", "an IP address or a host name"),
        ("http://127.0.0:80", "an IP address or a host name"),
        ("http://[::1:80", "`host` or `host:port`|an IP address or a host name"),
        ("http://***@host", "printed with its credentials masked"),
        (5, "valid string"),
        (None, "valid string"),
    ],
)
def test_what_is_no_tracking_address_is_refused_before_any_work(uri, message):
    with pytest.raises(ValidationError, match=message):
        TrackingConfig(uri=uri)


def test_the_error_about_a_wrong_address_shows_no_password():
    with pytest.raises(ConfigError) as caught:
        load_config(overrides=["tracking.uri=ftp://ann:c0rrect-h0rse@host"])
    assert "c0rrect-h0rse" not in str(caught.value)
    assert "ftp://***@host" in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "::1", "0.0.0.0", "gpu-1.lab.example", "a_b", "spark.local."]
)
def test_hosts(host):
    assert check_host(host) == host
    assert DeployConfig(host=host).host == host


@pytest.mark.parametrize(
    "host", ["", " ", "http://h", "h:80", "300.1.1.1", "1.2.3", "-h", "h-", "a..b", "h/x", "x" * 64, "ho st", "*"]
)
def test_what_is_no_host_is_refused(host):
    with pytest.raises(ValidationError, match="an IP address or a host name"):
        DeployConfig(host=host)


@pytest.mark.parametrize("authority", ["h", "h:1", "h:65535", "[::1]", "[::1]:80", "127.0.0.1:80"])
def test_authorities(authority):
    check_authority(authority)


@pytest.mark.parametrize(
    ("ports", "message"),
    [
        ([0, 5], "greater than or equal to 1"),
        ([8091, 65536], "less than or equal to 65535"),
        ([8099, 8091], r"deploy.ports=\[8099, 8091\] starts after it ends"),
        ([8091], "Field required"),
        ([1, 2, 3], "at most 2 items"),
        (["a", 2], "valid integer"),
        (8091, "valid tuple"),
    ],
)
def test_what_is_no_range_of_ports_is_refused(ports, message):
    with pytest.raises(ValidationError, match=message):
        DeployConfig(ports=ports)


def test_a_file_in_the_way_of_a_folder_and_a_folder_in_place_of_a_file_are_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for model, key in ((StoreConfig, "root"), (StoreConfig, "cache"), (DeployConfig, "root")):
        for path in (file, file / "below"):
            with pytest.raises(ValidationError, match=r"a folder; .*file is a file"):
                model(**{key: str(path)})
        assert getattr(model(**{key: str(tmp_path / "new/below")}), key) == str(tmp_path / "new/below")
        with pytest.raises(ValidationError, match="the path of a folder"):
            model(**{key: " "})
    with pytest.raises(ValidationError, match="of a file, not of a folder"):
        DataConfig(raw=str(tmp_path))
    assert DataConfig(raw=str(file)).raw == str(file)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("host:2375", "unix://PATH"),
        ("ssh://ann:pw@host", "an address without a password"),
        ("tcp://host:99999", "a port number"),
        ("tcp://", "unix://PATH"),
        ("ssh://ann@ho st", "an IP address or a host name"),
    ],
)
def test_what_is_no_docker_engine_is_refused(address, message):
    with pytest.raises(ValidationError, match=message):
        DockerConfig(kind="docker", host=address)


@pytest.mark.parametrize("address", ["unix:///run/docker.sock", "tcp://host:2375", "ssh://ann@spark.local", None])
def test_docker_engines(address):
    assert DockerConfig(kind="docker", host=address).host == address


def test_sections_know_their_keys_and_stay_as_they_are():
    class Two(Section):
        one: int = 1

    with pytest.raises(ValidationError, match="Extra inputs"):
        Two(two=2)
    with pytest.raises(ValidationError, match="frozen"):
        Two().one = 2
    assert isinstance(TrackingConfig().uri, SecretUrl)


@pytest.mark.parametrize("text", [".inf", "-.inf", ".nan", "1e400"])
def test_a_number_that_is_not_finite_is_refused_in_every_section(text: str) -> None:
    for key in ("evaluate.timeout_s", "deploy.start_timeout_s", "quantize.memory_budget_gb", "train.lr"):
        with pytest.raises(ConfigError, match=rf"{key}.*finite"):
            load_config(ROOT / "conf", [f"{key}={text}"])


def test_no_section_has_a_field_that_makes_dict_take_it_for_a_mapping() -> None:
    """Prefect reads a flow's parameters by `dict(model)`, which fails where a model has a field `keys`."""
    with pytest.raises(TypeError, match="keys"):
        type("Trust", (Section,), {"__annotations__": {"keys": str}, "keys": ""})
    assert set(dict(load_config(ROOT / "conf"))) == set(type(load_config(ROOT / "conf")).model_fields)

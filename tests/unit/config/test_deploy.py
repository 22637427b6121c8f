"""The deploy section: a target keeps a way back, and its defaults are loopback."""

from __future__ import annotations

import pytest

from slipway.config.deploy import DeployConfig
from tests.support.sections import Bound, assert_bound, assert_every_bound_is_listed, assert_near_key, refusal


def test_a_target_listens_on_loopback_unless_told_otherwise():
    assert (DeployConfig().host, DeployConfig().kind) == ("127.0.0.1", "local")


def test_one_port_is_a_range():
    assert DeployConfig(ports=[8091, 8091]).ports == (8091, 8091)


BOUNDS: list[Bound] = [
    ("kind", "ssh", "local"),
    ("host", "http://127.0.0.1", "127.0.0.1"),
    ("host", "127.0.0", "::1"),
    ("root", "", "targets/mine"),
    ("ports", [0, 8099], [1, 8089]),
    ("ports", [8091, 65536], [8091, 65535]),
    ("ports", [8091], [8091, 8091]),
    ("start_timeout_s", 0, 0.1),
    ("smoke_requests", 0, 1),
    ("canary.way", "shadow", "mirror"),
    ("canary.share", 0, 1),
    ("canary.share", 51, 50),
    ("canary.for_s", 0, 1),
    ("canary.margin", 0, 0.01),
    ("canary.margin", 1, 0.99),
    ("canary.alpha", 0, 0.01),
    ("canary.alpha", 1, 0.99),
    ("canary.answer_s", 0, 1),
    ("canary.prompts", 0, 1),
    ("canary.prompts", 1001, 1000),
    ("capture.days", 0, 1),
    ("capture.days", 366, 365),
    ("capture.megabytes", 0, 1),
    ("capture.megabytes", 10_001, 10_000),
    ("probe.timeout_s", 0, 1),
    ("probe.at_once", 0, 1),
    ("probe.slowest", 1, 1.5),
    ("probe.agreement.prompts", 0, 1),
    ("probe.agreement.prompts", 51, 50),
    ("probe.agreement.tokens", 23, 24),
    ("probe.agreement.long_tokens", 23, 24),
    ("probe.agreement.limit_s", 0, 1),
    ("probe.agreement.states_gb", 0, 0.5),
    ("probe.agreement.check", "maybe", "required"),
    ("keep_releases", 1, 2),
    ("way", "aside", "auto"),
    ("reserve_gb", -1, 0),
    ("runtime", "lxc", "podman"),
    ("proxy.kind", "nginx", "haproxy"),
    ("proxy.host", "localhost", "::1"),
    ("proxy.port", 0, 1),
    ("proxy.port", 65536, 65535),
    ("proxy.drain_limit_s", 0, 0.1),
    ("proxy.drain_limit_s", 86401, 86400),
    ("proxy.hold_limit_s", 0, 0.1),
    ("proxy.hold_limit_s", 86401, 86400),
    ("proxy.retry_after_s", 0, 1),
    ("proxy.retry_after_s", 3601, 3600),
    ("proxy.answer_limit_s", 0, 0.1),
    ("proxy.answer_limit_s", 86401, 86400),
    ("proxy.max_connections", 9, 10),
    ("proxy.max_connections", 100_001, 100_000),
    ("proxy.command", [], ["haproxy"]),
    ("policy", "always", "ask"),
    ("answer_within_s", 0, 0.1),
    ("routing.model_b", 0, 0.1),
    ("routing.few_users", 0, 1),
    ("routing.many_users", 0, 10),
    ("routing.full_training_b", 0, 0.1),
    ("routing.training_hours", 0, 0.1),
    ("signing.signer", "pgp", "sigstore"),
    ("trust.policy", "maybe", "enforce"),
]


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_a_bound_is_refused_outside_by_its_key_and_holds_inside(bound):
    assert_bound("deploy", bound)


def test_every_bound_of_the_section_is_tried():
    assert_every_bound_is_listed(DeployConfig, BOUNDS)


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("port", "ports"),
        ("keep_release", "keep_releases"),
    ],
)
def test_an_unknown_key_is_refused_with_the_near_one(key, near):
    assert_near_key("deploy", key, near)


@pytest.mark.parametrize("port", [8091, 8095, 8099])
def test_clients_and_engines_have_ports_of_their_own(port):
    assert "deploy.proxy.port" in refusal("deploy", "proxy", {"port": port})
    assert DeployConfig(proxy={"port": port, "kind": "none"}).proxy.port == port


def test_ports_that_end_before_they_start_are_refused_by_their_section():
    assert refusal("deploy", "ports", [8099, 8091]).startswith(
        "config section deploy: deploy.ports=[8099, 8091] starts after it ends"
    )


def test_a_machine_behind_ssh_says_how_it_is_reached_and_no_other_does():
    ssh = {"host": "spark", "user": "me"}
    assert DeployConfig(kind="spark", ssh=ssh).ssh.host == "spark"
    assert "deploy.ssh goes with deploy.kind=spark" in refusal("deploy", "kind", "spark")
    assert "deploy.ssh goes with deploy.kind=spark" in refusal("deploy", "ssh", ssh)

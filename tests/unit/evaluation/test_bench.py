from __future__ import annotations

from pathlib import Path

import pytest

from slipway.errors import ConfigError, DataError, ResourceError
from slipway.evaluation.bench import (
    bench,
    endpoint_base,
    only_model,
    own_prompts,
    parse_lengths,
    parse_levels,
    read_prompts,
)
from slipway.system.progress import Progress
from tests.support.timed_server import Script, timed


def test_an_endpoint_is_measured_with_its_only_model() -> None:
    script = Script()
    with timed(script) as url:
        doc = bench(url.removesuffix("/v1"), None, [1, 2], 4, (2, 4), own_prompts(), 20, "abc", Progress())
    assert (doc["url"], doc["model"]) == (url, "m")
    assert [run["concurrency"] for run in doc["runs"]] == [1, 2]
    assert {body["model"] for body in script.bodies} == {"m"}


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("http://a:1", "http://a:1/v1"),
        ("http://a:1/", "http://a:1/v1"),
        ("https://a/api/v1/", "https://a/api/v1"),
    ],
)
def test_a_bare_host_gets_the_api_s_path(given: str, base: str) -> None:
    assert endpoint_base(given) == base


@pytest.mark.parametrize("url", ["", "a:1", "ftp://a", "http://", "http://[::1", "http://u:secret@a", "http://a:99999"])
def test_what_is_no_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as err:
        endpoint_base(url)
    assert "secret" not in str(err.value)


def test_nobody_there_is_a_missing_service() -> None:
    with timed(Script()) as url:
        pass
    with pytest.raises(ResourceError):
        only_model(url, 5, None)


def test_own_prompts_share_no_beginning_and_are_the_same_each_time() -> None:
    prompts = own_prompts()
    assert prompts == own_prompts()
    assert len({prompt[0]["content"][:4] for prompt in prompts}) == len(prompts)


def test_prompts_of_three_forms(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    user = '{"role": "user", "content": "c"}'
    file.write_text(
        f'{{"prompt": "a"}}\n\n{{"text": "b"}}\n{{"messages": [{user}, {{"role": "assistant", "content": "d"}}]}}\n'
    )
    assert [[m["content"] for m in prompt] for prompt in read_prompts(file)] == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "7", '{"prompt": ""}', '{"messages": []}', '{"messages": [1]}', '{"messages": "x"}', "[" * 90000],
)
def test_a_line_that_is_no_prompt_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(f'{{"prompt": "a"}}\n{line}\n')
    with pytest.raises(DataError, match="line 2"):
        read_prompts(file)


def test_a_file_that_is_not_there_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read_prompts(tmp_path / "none")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(DataError):
        read_prompts(tmp_path / "empty")


def test_levels_and_lengths() -> None:
    assert parse_levels("1,8, 64") == [1, 8, 64]
    assert parse_lengths("48-64") == (48, 64)
    assert parse_lengths("64") == (64, 64)


@pytest.mark.parametrize("text", ["", "0", "1,,2", "-1", "x", "99999", "9" * 5000, "1.5"])
def test_levels_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_levels(text)


@pytest.mark.parametrize("text", ["", "0", "1", "64-48", "1-2-3", "x", "9" * 5000])
def test_lengths_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_lengths(text)

"""Metrics behind entry points, from packages made for the test."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from slipway.errors import ConfigError
from slipway.evaluation.python_metrics import code_of, names, scorer
from slipway.evaluation.scorer import Example

MODULE = """
from slipway.evaluation.metric import Metric
from slipway.evaluation.scorer import Scorer

def length_ratio(expected, answer, row):
    return len(answer) / len(expected)

def odd(expected, answer, row):
    return row["value"]

declared = Scorer(Metric("declared", "declared one", "binary", "lower"), lambda example: example.answer == "bad")
misnamed = Scorer(Metric("other", "other"), lambda example: 1.0)
number = 3
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package whose metrics are entry points."""
    (tmp_path / "my_metrics_of_the_test.py").write_text(MODULE)
    monkeypatch.delitem(sys.modules, "my_metrics_of_the_test", raising=False)  # an earlier test's
    info = tmp_path / "my_metrics-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-metrics\nVersion: 1.2\n")
    entries = ["length_ratio", "odd", "declared", "misnamed", "number", "absent"]
    lines = [f"{name} = my_metrics_of_the_test:{name}" for name in entries] + ["gone = no_such_module_here:x"]
    (info / "entry_points.txt").write_text("[slipway.metrics]\n" + "\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def example(answer: str, **row: object) -> Example:
    return Example({"id": "r1", "messages": [{"role": "assistant", "content": "four"}], **row}, answer)


def test_a_function_is_a_real_metric_of_its_entry_points_name(package: Path) -> None:
    assert {"length_ratio", "declared"} <= set(names())
    made = scorer("length_ratio")
    assert (made.metric.name, made.metric.title, made.metric.kind, made.metric.unit) == (
        "length_ratio",
        "length ratio",
        "real",
        "",
    )
    assert made.score(example("no")) == 0.5


def test_a_scorer_declares_itself(package: Path) -> None:
    made = scorer("declared")
    assert (made.metric.kind, made.metric.direction) == ("binary", "lower")
    assert (made.score(example("bad")), made.score(example("good"))) == (1, 0)


@pytest.mark.parametrize("value", ["1", float("nan"), float("inf"), [1], 10**400, {"a": 1}], ids=lambda v: str(v)[:8])
def test_a_value_that_is_no_number_is_one_error(package: Path, value: object) -> None:
    with pytest.raises(ConfigError, match=r"metric odd, row r1: .*a finite number"):
        scorer("odd").score(example("x", value=value))


@pytest.mark.parametrize(("value", "number"), [(True, 1), (None, None), (2, 2)])
def test_numbers_truth_values_and_none_are_values(package: Path, value: object, number: float | None) -> None:
    assert scorer("odd").score(example("x", value=value)) == number


def test_what_a_function_raises_is_one_error_that_names_the_row(package: Path) -> None:
    with pytest.raises(ConfigError, match="metric odd, row r1: KeyError: 'value'"):
        scorer("odd").score(example("x"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("misnamed", "declares the metric other"),
        ("number", "is a int"),
        ("absent", "AttributeError"),
        ("gone", "ModuleNotFoundError"),
        ("nobody", "no entry point 'nobody'"),
    ],
)
def test_an_entry_point_that_is_no_metric_is_named(package: Path, name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        scorer(name)


def test_the_code_is_the_package_and_the_modules_bytes(package: Path) -> None:
    before = code_of("length_ratio")
    assert before.startswith("my-metrics 1.2 my_metrics_of_the_test:length_ratio ")
    with (package / "my_metrics_of_the_test.py").open("a") as module:
        module.write("# changed\n")
    assert code_of("length_ratio") != before
    with pytest.raises(ConfigError, match="there is no module"):
        code_of("gone")


def test_the_example_of_the_documentation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/metrics.md: its module, installed with the entry point of its pyproject.toml."""
    text = Path("docs/metrics.md").read_text(encoding="utf-8")
    module, project = (re.search(rf"```{kind}\n# (\S+)\n(.*?)```", text, re.DOTALL) for kind in ("python", "toml"))
    assert module is not None
    assert project is not None
    (tmp_path / module[1]).write_text(module[2])
    declared = tomllib.loads(project[2])
    info = tmp_path / "polite_metric-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {declared['project']['name']}\nVersion: 1.0\n")
    entries = declared["project"]["entry-points"]["slipway.metrics"]
    (info / "entry_points.txt").write_text("[slipway.metrics]\n" + "\n".join(f"{k} = {v}" for k, v in entries.items()))
    monkeypatch.syspath_prepend(str(tmp_path))
    polite = scorer("polite")
    row = {"id": "r", "messages": [{"role": "assistant", "content": "Thank you, and welcome."}]}
    assert [polite.score(Example(row, answer)) for answer in ("thank you", "no", "Welcome! Thanks.")] == [0.5, 0, 1]
    assert Path(module[1]).stem in declared["tool"]["setuptools"]["py-modules"]

"""The rules about rows."""

import re
from pathlib import Path

from slipway.data.problems import RULES, RowProblem

SOURCE = Path(__file__).resolve().parents[3] / "src/slipway/data"


def test_every_kind_that_is_raised_or_noted_has_a_rule_and_every_rule_is_used():
    text = "".join(file.read_text(encoding="utf-8") for file in SOURCE.glob("*.py") if file.stem != "problems")
    used = set(re.findall(r'(?:RowProblem|_note)\(\s*"(\w+)"', text))
    used |= set(re.findall(r'"(\w+)" if \w+[^\n]* else "(\w+)"', text)[0]) & set(RULES)
    assert used - set(RULES) == set()
    assert set(RULES) - used == set()


def test_a_problem_says_its_rule_and_what_was_seen():
    assert str(RowProblem("cut", "9 tokens")) == f"{RULES['cut'].title}: 9 tokens"
    assert all(rule.title and rule.way_out and rule.outcome in ("refuse", "warn") for rule in RULES.values())

"""The words of the command language: written anew they are the shipped ones, and they cover the corpus."""

from __future__ import annotations

from pathlib import Path

from scripts import corpus
from scripts.agent_words import words
from slipway.agents.grounding import command_words, ungrounded
from slipway.agents.home import read_plan
from slipway.agents.intents import problem_of

ROOT = Path(__file__).resolve().parents[3]


def test_the_shipped_list_is_what_the_script_writes() -> None:
    assert words(ROOT / "scripts/home.yaml") == sorted(command_words())


def test_nearly_every_sentence_agrees_with_its_own_intent() -> None:
    """A check that refuses right answers costs what it protects: at most one in a hundred of every ninth template's."""
    plan, home = read_plan(), corpus.read_home(ROOT / "scripts/home.yaml")
    intents, wrong, checked = corpus.read_intents(home), [], 0
    for template in list(corpus.templates(intents))[::9]:
        for text, answer in corpus.sentences(template, 4, 17, intents, home):
            checked += 1
            assert problem_of(answer) == ""
            wrong += [text] if ungrounded(text, answer, plan) else []
    assert checked > 100
    assert len(wrong) <= checked / 100, wrong

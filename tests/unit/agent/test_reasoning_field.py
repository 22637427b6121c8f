"""Reasoning in chat messages, by the names that servers give it."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.agent.reasoning_field import reasoning_of


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ({"reasoning": "hm"}, "hm"),
        ({"reasoning_content": "hm"}, "hm"),
        ({"reasoning": "hm", "reasoning_content": "hm"}, "hm"),
        ({"reasoning": None, "reasoning_content": "hm"}, "hm"),
        ({"reasoning": "", "content": "answer"}, ""),
        ({"reasoning": {"effort": "low"}}, ""),
        ({}, ""),
    ],
)
def test_both_names_are_read_and_the_same_text_once(part: dict[str, Any], text: str) -> None:
    assert reasoning_of(part) == text

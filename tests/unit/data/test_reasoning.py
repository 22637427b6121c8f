"""Reasoning parted from answers, as engines do that know a model's marks."""

import pytest

from slipway.data.reasoning import parted


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("on", "", "on"),
        (" on\n", "", " on\n"),
        ("<think>\n\n</think>\n\non", "<think>\n\n</think>", "on"),
        ("\n<think>\nwhy\n</think>on", "\n<think>\nwhy\n</think>", "on"),
        ("why\n</think>\n\non", "why\n</think>", "on"),
        ("<think>\nwhy", "<think>\nwhy", ""),
        ("[THINK]why[/THINK]on", "[THINK]why[/THINK]", "on"),
        ("<thinking>why</thinking>on", "<thinking>why</thinking>", "on"),
        ("write <think>, then </think>", "", "write <think>, then </think>"),
        ("<thinks>", "", "<thinks>"),
        ("", "", ""),
    ],
)
def test_what_a_text_begins_with_is_parted(text, thought, answer):
    assert parted(text) == (thought, answer)

"""Fifty things to ask an engine whose answers are only looked at token by token: any language model goes on from them.

A subject and a form each, so that the first few already differ in both. Rendered by the model's own chat template, or
as they are where it has none.
"""

from __future__ import annotations

from pathlib import Path

from slipway.errors import CheckpointError

SUBJECTS = (
    "a lighthouse in winter", "how bread is made", "the planets of the solar system", "sorting a list of numbers",
    "a market in an old town", "the rules of chess", "why the sky is blue", "a week of cooking for two",
    "the history of the bicycle", "planting a garden",
)  # fmt: skip
FORMS = (
    "Write a long story about {}.",
    "Explain {} step by step, with numbers.",
    'Return JSON with ten facts about {}, each with "fact" and "source".',
    "Write a dialogue between a teacher and a student about {}.",
    "Schreibe einen Aufsatz über {}, and end with a table in Markdown.",
)
MOST = len(SUBJECTS) * len(FORMS)


def prompts(count: int) -> list[str]:
    """The first `count` of them, at most MOST."""
    every = [FORMS[(i + i // len(SUBJECTS)) % len(FORMS)].format(SUBJECTS[i % len(SUBJECTS)]) for i in range(MOST)]
    return every[:count]


def prompt_tokens(model: Path, count: int) -> list[list[int]]:
    """Token ids of `count` prompts by the tokenizer in `model`. Raises CheckpointError when it has none."""
    from slipway.data.tokens import chat_template, plain_tokens

    texts = prompts(count)
    try:
        template = chat_template(model)
    except CheckpointError:
        return plain_tokens(model, texts)
    return template.encode([template.render([{"role": "user", "content": text}], prompt=True) for text in texts])

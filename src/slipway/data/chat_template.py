"""A model's chat template with its tokenizer: messages to text, text to tokens, and which tokens end a turn.

Text is tokenized without special tokens of its own (`add_special_tokens=False`): the template writes all that belong
there, as Hugging Face's `apply_chat_template(tokenize=True)` has it. Messages are canonical rows' (`data.rows`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from slipway.data.problems import RowProblem

Message = Mapping[str, Any]
# Ends of a turn by name, in case a model's files do not list them as stop tokens: those that llama.cpp takes for one
# by their text (src/llama-vocab.cpp, `special_eot_id`), and harmony's.
END_NAMES = frozenset(
    {
        "<|eot_id|>",
        "<|eom_id|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<end_of_turn>",
        "<turn|>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<|END_OF_TURN_TOKEN|>",
        "<|eot|>",
        "<end_of_utterance>",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",  # DeepSeek's, with full-width bars
        "</s>",
    }
)
_SHOWN = 160
# What a template's Jinja code raises for messages that it was not written for; jinja2's own errors are added in
# `render`, where the library is imported
_TEMPLATE_ERRORS = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)


@dataclass(frozen=True)
class ChatTemplate:
    """`stops`: ids at which generation stops, by the model's files, with their text. `ends`: ids of other tokens that
    end a turn by their name. `controls`: texts of all special tokens, longest first."""

    tokenizer: Any
    stops: Mapping[int, str]
    ends: Mapping[int, str]
    controls: Sequence[str] = field(default=())

    @cached_property
    def openings(self) -> frozenset[str]:
        """First characters of all special tokens and stops: a text without any of them holds none."""
        return frozenset(text[0] for text in (*self.controls, *self.stops.values()) if text)

    @classmethod
    def of(cls, tokenizer: Any, stop_ids: Sequence[int]) -> ChatTemplate:
        """The template of a Hugging Face tokenizer; `stop_ids` are the model's, the tokenizer's own is added."""
        eos = tokenizer.eos_token_id
        ids = {*stop_ids, *([] if eos is None else [eos])}
        added = tokenizer.added_tokens_decoder
        texts = {id_: str(added[id_].content) for id_ in sorted(ids) if id_ in added}
        special = {id_: str(token.content) for id_, token in added.items() if token.special}
        ends = {id_: text for id_, text in special.items() if text in END_NAMES and id_ not in texts}
        return cls(tokenizer, texts, ends, sorted(special.values(), key=len, reverse=True))

    def render(self, messages: Sequence[Message], tools: Any = None, *, prompt: bool, **variables: Any) -> str:
        """The messages as text, with the header of the assistant's next turn for a `prompt`. `variables`: the
        template's own, as `enable_thinking`. Raises RowProblem `template` when the template's code raises."""
        from jinja2 import TemplateError

        try:
            text = self.tokenizer.apply_chat_template(
                list(messages), tools=tools or None, tokenize=False, add_generation_prompt=prompt, **variables
            )
        except (TemplateError, *_TEMPLATE_ERRORS) as err:
            reason = " ".join(str(err).split()) or type(err).__name__
            raise RowProblem("template", reason[:_SHOWN]) from err
        return str(text)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
        return ids

    def writes_no_bos(self) -> bool:
        """Whether the tokenizer itself puts a beginning-of-text token before every text, and the template does not."""
        bos = self.tokenizer.bos_token_id
        if bos is None or self.tokenizer("a")["input_ids"][:1] != [bos]:
            return False
        try:
            text = self.render([{"role": "user", "content": "a"}], prompt=True)
        except RowProblem:
            return False
        return self.encode([text])[0][:1] != [bos]

    def generation_runs(self, messages: Sequence[Message], tools: Any = None) -> list[tuple[int, int]] | None:
        """Token ranges that the template itself marks by `{% generation %}`, one a turn; None where it marks none."""
        template = self.tokenizer.get_chat_template(tools=tools or None)
        if not re.search(r"\{%-?\s*generation\s*-?%\}", template):
            return None
        marked = self.tokenizer.apply_chat_template(
            list(messages),
            tools=tools or None,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )["assistant_masks"]
        edges = [i for i, (one, next_) in enumerate(zip([0, *marked], [*marked, 0], strict=True)) if one != next_]
        return list(zip(edges[::2], edges[1::2], strict=True))
